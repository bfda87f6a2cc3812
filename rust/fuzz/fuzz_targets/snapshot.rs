//! Whatever is in a file, reading it ends, and no key comes twice. The checksums of the first two pages are put right,
//! or no changed file would get beyond them.
#![no_main]

use std::collections::HashSet;

use keystead_etcd::{Snapshot, Tally};
use libfuzzer_sys::fuzz_target;

const META: std::ops::Range<usize> = 16..72;

fn mend(bytes: &mut [u8], page: usize) {
    let Some(body) = bytes.get(page..).and_then(|rest| rest.get(META)) else { return };
    let sum = body.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    if let Some(place) = bytes.get_mut(page + META.end..page + META.end + 8) {
        place.copy_from_slice(&sum.to_le_bytes());
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    mend(&mut bytes, 0);
    mend(&mut bytes, 4096);
    let Ok(latest) = Snapshot::open(bytes.as_slice()).and_then(Snapshot::latest) else { return };
    let (mut seen, mut tally, mut last) = (HashSet::new(), Tally::new(b"/registry/".to_vec()), u64::MAX);
    for entry in latest {
        let Ok(entry) = entry else { return };
        assert!(entry.mod_revision <= last, "not from the latest to the oldest");
        last = entry.mod_revision;
        tally.add(&entry.key, &entry.value, entry.mod_revision);
        assert!(seen.insert(entry.key), "a key came twice");
    }
    let counted: u64 = tally.rows().map(|(_, count)| count.objects).sum();
    assert_eq!(counted + tally.outside(), seen.len() as u64);
});
