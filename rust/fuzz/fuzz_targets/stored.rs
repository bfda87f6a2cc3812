//! Whatever is in a value, looking at it ends, and what is called ours has the parts that a recovery needs.
#![no_main]

use keystead_core::{Error, Recovery};
use keystead_etcd::{Holder, Plugin, Stored};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let value = [b"k8s:enc:kms:", bytes].concat();
    let stored = Stored::parse(&value);
    let holder = Holder::of(&stored);
    let Stored::Kms(kms) = stored else { return };
    assert!(!kms.provider.contains(':'));
    assert_eq!(holder.record.is_some(), matches!(kms.plugin, Plugin::Keystead(_)));
    let Plugin::Keystead(_) = kms.plugin else { return };
    let recovery = Recovery::default();
    let opened = match kms.value_v2() {
        Some(value) => recovery.open_v2(b"/registry/secrets/a/b", &value),
        None => recovery.open_v1(b"/registry/secrets/a/b", kms.source, kms.data),
    };
    assert_eq!(opened.err(), Some(Error::NotHeld));
});
