//! A state file that the parser accepts encodes to itself, and its name is that of its record.
#![no_main]

use keystead_core::StateFile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(state) = StateFile::parse(bytes) else { return };
    assert_eq!(state.encode().expect("what was parsed fits"), bytes);
    let named = state.record().key_id(state.key_id().epoch()).expect("its epoch is one of ours");
    assert_eq!(named, state.key_id().as_str());
});
