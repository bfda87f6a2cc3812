use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use rustix::mm::{Advice, MapFlags, ProtFlags};
use zeroize::Zeroize;

/// Bytes in a slot: two keys of 32 bytes.
pub const SLOT_SIZE: usize = 64;

/// A multiple of the page sizes in use (4 and 16 KiB); where pages are larger, the kernel rounds up.
const CHUNK_SIZE: usize = 16 * 1024;
const SLOTS_PER_CHUNK: usize = CHUNK_SIZE / SLOT_SIZE;

type SlotBytes = [u8; SLOT_SIZE];

/// Whether the memory that holds keys so far could be protected. True for an arena without any chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Every chunk is locked: it cannot reach swap.
    pub locked: bool,
    /// Every chunk is left out of core dumps.
    pub undumpable: bool,
}

/// A growing set of slots. Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct Arena(Arc<Shared>);

struct Shared {
    protection: Protection,
    state: Mutex<State>,
}

struct State {
    chunks: Vec<NonNull<u8>>,
    free: Vec<NonNull<SlotBytes>>,
    report: Report,
}

/// What is asked of the kernel for each chunk. A parameter, so that a test can refuse it.
#[derive(Clone, Copy)]
struct Protection {
    lock: fn(NonNull<u8>) -> io::Result<()>,
    hide: fn(NonNull<u8>) -> io::Result<()>,
}

const KERNEL: Protection = Protection { lock: lock_chunk, hide: hide_chunk };

// SAFETY: the pointers in `State` refer to mappings that belong to the arena alone, not to a thread; they are reached
// only through the mutex.
unsafe impl Send for State {}

impl Arena {
    /// Make an empty arena; memory is mapped with the first slot.
    #[must_use]
    pub fn new() -> Self {
        Self::with_protection(KERNEL)
    }

    /// The arena of this process.
    #[must_use]
    pub fn global() -> &'static Self {
        static GLOBAL: LazyLock<Arena> = LazyLock::new(Arena::new);
        &GLOBAL
    }

    fn with_protection(protection: Protection) -> Self {
        let report = Report { locked: true, undumpable: true };
        let state = State { chunks: Vec::new(), free: Vec::new(), report };
        Self(Arc::new(Shared { protection, state: Mutex::new(state) }))
    }

    /// Take a slot and let `fill` write into it; it starts as zeros. If `fill` fails, the slot is wiped and given back.
    ///
    /// A system that refuses to lock memory or to hide it from core dumps is no error: see [`Arena::report`].
    ///
    /// # Errors
    /// Only those of `fill`.
    pub fn store<E>(&self, fill: impl FnOnce(&mut SlotBytes) -> Result<(), E>) -> Result<Slot, E> {
        let at = self.0.take();
        let mut slot = Slot { at, arena: self.clone() };
        fill(slot.bytes_mut())?;
        Ok(slot)
    }

    /// Say how well the memory so far is protected.
    #[must_use]
    pub fn report(&self) -> Report {
        self.0.state().report
    }
}

impl Default for Arena {
    fn default() -> Self {
        Self::new()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change below leaves the lists in order even if a later step panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> NonNull<SlotBytes> {
        let mut state = self.state();
        loop {
            if let Some(slot) = state.free.pop() {
                return slot;
            }
            state.grow(self.protection);
        }
    }
}

impl State {
    fn grow(&mut self, protection: Protection) {
        let chunk = map_chunk();
        self.report.locked &= (protection.lock)(chunk).is_ok();
        self.report.undumpable &= (protection.hide)(chunk).is_ok();
        self.chunks.push(chunk);
        let first = chunk.cast::<SlotBytes>();
        for index in (0..SLOTS_PER_CHUNK).rev() {
            // SAFETY: `index` is below the number of slots in the chunk, so the result stays inside the mapping.
            self.free.push(unsafe { first.add(index) });
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        for chunk in &self.chunks {
            // SAFETY: each chunk was mapped by `map_chunk` with this size. Every slot holds a handle to the arena, so
            // none is left when the state is dropped.
            let _ = unsafe { rustix::mm::munmap(chunk.as_ptr().cast(), CHUNK_SIZE) };
        }
    }
}

/// 64 bytes in an arena, wiped when dropped. Readable from any thread; they never move and never change.
pub struct Slot {
    at: NonNull<SlotBytes>,
    arena: Arena,
}

// SAFETY: a slot owns its bytes alone, like a `Box`.
unsafe impl Send for Slot {}
// SAFETY: a shared slot can only be read.
unsafe impl Sync for Slot {}

impl Slot {
    /// Look at the bytes. Keep no copy.
    #[must_use]
    pub fn expose(&self) -> &SlotBytes {
        // SAFETY: the pointer is inside a mapping that lives as long as the arena, which this slot holds; a fresh
        // mapping and a wiped slot are initialised bytes; nobody else has this slot while it is taken.
        unsafe { self.at.as_ref() }
    }

    fn bytes_mut(&mut self) -> &mut SlotBytes {
        // SAFETY: as in `expose`, and `&mut self` excludes other borrows.
        unsafe { self.at.as_mut() }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.bytes_mut().zeroize();
        self.arena.0.state().free.push(self.at);
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").finish_non_exhaustive()
    }
}

fn map_chunk() -> NonNull<u8> {
    // SAFETY: a new anonymous mapping at an address of the kernel's choice aliases nothing.
    let mapped = unsafe {
        rustix::mm::mmap_anonymous(
            std::ptr::null_mut(),
            CHUNK_SIZE,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )
    };
    // Without memory for a key there is nothing left to do, as for any other allocation.
    NonNull::new(mapped.unwrap_or_else(|_| out_of_memory()).cast()).unwrap_or_else(|| out_of_memory())
}

fn out_of_memory() -> ! {
    std::alloc::handle_alloc_error(std::alloc::Layout::new::<[u8; CHUNK_SIZE]>())
}

fn lock_chunk(chunk: NonNull<u8>) -> io::Result<()> {
    // SAFETY: the range is one mapping of this arena; locking changes neither its content nor its validity.
    Ok(unsafe { rustix::mm::mlock(chunk.as_ptr().cast(), CHUNK_SIZE) }?)
}

fn hide_chunk(chunk: NonNull<u8>) -> io::Result<()> {
    // SAFETY: the range is one mapping of this arena; this advice changes only what a core dump contains.
    Ok(unsafe { rustix::mm::madvise(chunk.as_ptr().cast(), CHUNK_SIZE, Advice::LinuxDontDump) }?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    fn filled(arena: &Arena, byte: u8) -> Slot {
        let Ok(slot) = arena.store(|bytes| {
            bytes.fill(byte);
            Ok::<_, Infallible>(())
        });
        slot
    }

    /// Read a slot that was given back; the arena, and so the mapping, must still live.
    fn look(_arena: &Arena, at: NonNull<SlotBytes>) -> SlotBytes {
        // SAFETY: the mapping lives as long as the arena, and no other thread uses this test's arena.
        unsafe { at.read_volatile() }
    }

    #[test]
    fn a_dropped_slot_holds_only_zeros() {
        let arena = Arena::new();
        let slot = filled(&arena, 0xA5);
        let at = slot.at;
        assert_eq!(look(&arena, at), [0xA5; SLOT_SIZE]);
        drop(slot);
        assert_eq!(look(&arena, at), [0; SLOT_SIZE]);
    }

    #[test]
    fn a_slot_that_could_not_be_filled_holds_only_zeros() {
        let arena = Arena::new();
        let mut at = None;
        let refused = arena.store(|bytes| {
            bytes.fill(0xA5);
            at = NonNull::new(std::ptr::from_mut(bytes));
            Err("no")
        });
        assert_eq!(refused.err(), Some("no"));
        assert_eq!(at.map(|at| look(&arena, at)), Some([0; SLOT_SIZE]));
    }

    #[test]
    fn more_slots_than_a_chunk_has_are_distinct_and_keep_their_bytes() {
        let arena = Arena::new();
        let count = 2 * SLOTS_PER_CHUNK + 1;
        let slots: Vec<Slot> =
            (0..count).map(|n| filled(&arena, u8::try_from(n % 251).unwrap_or(0))).collect();
        assert_eq!(arena.0.state().chunks.len(), 3);
        for (n, slot) in slots.iter().enumerate() {
            assert_eq!(usize::from(slot.expose()[0]), n % 251);
            assert_eq!(slot.expose()[0], slot.expose()[SLOT_SIZE - 1]);
        }
        let places: std::collections::HashSet<usize> =
            slots.iter().map(|slot| slot.at.as_ptr().addr()).collect();
        assert_eq!(places.len(), count);
    }

    #[test]
    fn a_slot_given_back_is_used_again_before_the_arena_grows() {
        let arena = Arena::new();
        for round in 0..10 * SLOTS_PER_CHUNK {
            drop(filled(&arena, u8::try_from(round % 256).unwrap_or(0)));
        }
        assert_eq!(arena.0.state().chunks.len(), 1);
        assert_eq!(arena.0.state().free.len(), SLOTS_PER_CHUNK);
    }

    #[test]
    fn a_slot_outlives_the_handle_it_was_made_with() {
        let slot = filled(&Arena::new(), 7);
        assert_eq!(slot.expose(), &[7; SLOT_SIZE]);
    }

    #[test]
    fn the_report_says_what_the_kernel_says() {
        let arena = Arena::new();
        let slot = filled(&arena, 7);
        let flags = kernel_flags(slot.at.as_ptr().addr());
        let report = Report { locked: flags.contains(" lo"), undumpable: flags.contains(" dd") };
        assert_eq!(arena.report(), report, "{flags}");
    }

    /// The `VmFlags` of the mapping around an address.
    fn kernel_flags(address: usize) -> String {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        for line in smaps.lines() {
            let range = line.split(' ').next().and_then(|range| range.split_once('-'));
            let parse = |end| usize::from_str_radix(end, 16).ok();
            if let Some((Some(start), Some(end))) = range.map(|(start, end)| (parse(start), parse(end))) {
                inside = (start..end).contains(&address);
            } else if inside && line.starts_with("VmFlags") {
                return line.to_owned();
            }
        }
        panic!("no mapping around the address")
    }

    #[test]
    fn memory_that_the_kernel_will_not_lock_is_used_and_reported() {
        let refuse = |_| Err(io::Error::from_raw_os_error(12));
        let arena = Arena::with_protection(Protection { lock: refuse, hide: hide_chunk });
        let slot = filled(&arena, 7);
        assert_eq!(slot.expose(), &[7; SLOT_SIZE]);
        assert_eq!(arena.report(), Report { locked: false, undumpable: true });
    }

    #[test]
    fn memory_that_the_kernel_will_not_hide_from_core_dumps_is_used_and_reported() {
        let refuse = |_| Err(io::Error::from_raw_os_error(22));
        let arena = Arena::with_protection(Protection { lock: |_| Ok(()), hide: refuse });
        let slot = filled(&arena, 7);
        assert_eq!(slot.expose(), &[7; SLOT_SIZE]);
        assert_eq!(arena.report(), Report { locked: true, undumpable: false });
    }

    #[test]
    fn slots_may_be_made_read_and_dropped_in_many_threads() {
        let arena = Arena::new();
        std::thread::scope(|scope| {
            for thread in 1..=8 {
                let arena = &arena;
                scope.spawn(move || {
                    for _ in 0..500 {
                        let (a, b) = (filled(arena, thread), filled(arena, thread + 100));
                        assert_eq!(a.expose(), &[thread; SLOT_SIZE]);
                        assert_eq!(b.expose(), &[thread + 100; SLOT_SIZE]);
                    }
                });
            }
        });
        let chunks = arena.0.state().chunks.len();
        assert_eq!(arena.0.state().free.len(), chunks * SLOTS_PER_CHUNK);
    }

    #[test]
    fn a_secret_slot_does_not_print_its_bytes() {
        assert_eq!(format!("{:?}", filled(&Arena::new(), 7)), "Slot { .. }");
    }
}
