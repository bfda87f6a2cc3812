use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Forbid core dumps and ptrace for this process.
///
/// Return a sentence for each thing that the system refused; an empty list means that all of it holds.
#[must_use]
pub fn harden_process() -> Vec<String> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let mut refused = Vec::new();
    if let Err(errno) = setrlimit(Resource::Core, none) {
        refused.push(format!("set the core file limit to 0: {errno}"));
    }
    if let Err(errno) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        refused.push(format!("mark the process as not dumpable: {errno}"));
    }
    refused
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{dumpable_behavior, getrlimit};

    #[test]
    fn a_hardened_process_leaves_no_core_file_and_is_not_dumpable() {
        assert_eq!(harden_process(), Vec::<String>::new());
        assert_eq!(getrlimit(Resource::Core).current, Some(0));
        assert_eq!(dumpable_behavior(), Ok(DumpableBehavior::NotDumpable));
    }
}
