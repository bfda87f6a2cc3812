//! Files that somebody made to mislead a reader, each refused for its own reason. Their first pages are genuine.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

use keystead_etcd::{Entry, Error, Snapshot};

const SIZE: usize = 1024;
const BRANCH: u16 = 1;
const LEAF: u16 = 2;

type Part = (u32, Vec<u8>, Vec<u8>);

/// One page: a header, elements of 16 bytes, and then keys and values.
fn page(id: u64, flags: u16, elements: &[Part]) -> Vec<u8> {
    let mut out = header(id, flags, u16::try_from(elements.len()).unwrap(), 0);
    let mut at = out.len() + 16 * elements.len();
    for (index, (flag, key, value)) in elements.iter().enumerate() {
        let position = u32::try_from(at - 16 - 16 * index).unwrap();
        let sizes = (u32::try_from(key.len()).unwrap(), u32::try_from(value.len()).unwrap());
        if flags == BRANCH {
            // A branch has the number of a page where a leaf has sizes; here it is the value.
            out.extend([position.to_le_bytes(), sizes.0.to_le_bytes()].concat());
            out.extend(value);
            at += key.len();
        } else {
            let parts = [*flag, position, sizes.0, sizes.1];
            out.extend(parts.iter().flat_map(|part| part.to_le_bytes()));
            at += key.len() + value.len();
        }
    }
    for (_, key, value) in elements {
        out.extend(key);
        if flags != BRANCH {
            out.extend(value);
        }
    }
    out
}

fn header(id: u64, flags: u16, count: u16, overflow: u32) -> Vec<u8> {
    let mut out = id.to_le_bytes().to_vec();
    out.extend([flags.to_le_bytes(), count.to_le_bytes()].concat());
    out.extend(overflow.to_le_bytes());
    out
}

fn meta(id: u64, page_size: usize, end: u64, transaction: u64) -> Vec<u8> {
    let mut body = 0xED0C_DAED_u32.to_le_bytes().to_vec();
    for number in [2, u32::try_from(page_size).unwrap(), 0] {
        body.extend(number.to_le_bytes());
    }
    for number in [2, 0, u64::MAX, end, transaction] {
        body.extend(number.to_le_bytes());
    }
    let fnv = body.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    [header(id, 4, 0, 0), body, fnv.to_le_bytes().to_vec()].concat()
}

/// A file of pages from number 2 on; what a page lacks of its size is zeros.
fn file_of(page_size: usize, pages: &[Vec<u8>]) -> Vec<u8> {
    let used: usize = pages.iter().map(|page| page.len().div_ceil(page_size).max(1)).sum();
    let end = 2 + u64::try_from(used).unwrap();
    let mut out = Vec::new();
    for page in [&[meta(0, page_size, end, 8), meta(1, page_size, end, 7)], pages].concat() {
        out.extend(page);
        out.resize(out.len().next_multiple_of(page_size), 0);
    }
    out
}

fn file(pages: &[Vec<u8>]) -> Vec<u8> {
    file_of(SIZE, pages)
}

/// The page of buckets, with the tree of `key` at page 3.
fn buckets() -> Vec<u8> {
    page(2, LEAF, &[bucket("key", 3)])
}

fn bucket(name: &str, root: u64) -> Part {
    (1, name.into(), [root.to_le_bytes(), [0; 8]].concat())
}

fn child(revision: u8, page: u64) -> Part {
    (0, key(revision), page.to_le_bytes().to_vec())
}

fn key(revision: u8) -> Vec<u8> {
    [&[0, 0, 0, 0, 0, 0, 0, revision, b'_'][..], &[0; 8]].concat()
}

fn value(name: &str, created: u8, modified: u8) -> Vec<u8> {
    let name_size = u8::try_from(name.len()).unwrap();
    [&[0x0a, name_size], name.as_bytes(), &[0x10, created, 0x18, modified, 0x20, 1, 0x2a, 1, b'v']].concat()
}

fn put(revision: u8) -> Part {
    (0, key(revision), value(&format!("/k{revision}"), revision, revision))
}

fn read(bytes: &[u8]) -> Result<Vec<Entry>, Error> {
    Snapshot::open(bytes)?.latest()?.collect()
}

fn names(bytes: &[u8]) -> Vec<String> {
    let entries = read(bytes).unwrap();
    entries.into_iter().map(|entry| String::from_utf8(entry.key).unwrap()).collect()
}

fn refusal(bytes: &[u8]) -> String {
    match read(bytes) {
        Ok(table) => panic!("read as {} keys", table.len()),
        Err(Error::Io(error)) => panic!("{error}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_genuine_tree_of_three_pages_is_read_backwards_at_every_size_of_a_page() {
    for size in [1024, 4096, 16384, 65536] {
        let pages = [
            buckets(),
            page(3, BRANCH, &[child(2, 4), child(4, 5)]),
            page(4, LEAF, &[put(2), put(3)]),
            page(5, LEAF, &[put(4), put(5)]),
        ];
        assert_eq!(names(&file_of(size, &pages)), ["/k5", "/k4", "/k3", "/k2"]);
    }
}

#[test]
fn a_branch_may_begin_before_its_first_child_but_not_after() {
    let tree =
        |first: u8| file(&[buckets(), page(3, BRANCH, &[child(first, 4)]), page(4, LEAF, &[put(5), put(6)])]);
    assert_eq!(names(&tree(1)), ["/k6", "/k5"]);
    assert_eq!(names(&tree(5)), ["/k6", "/k5"]);
    assert!(refusal(&tree(6)).contains("page 4: it has keys that belong to another page"));
}

#[test]
fn trees_that_are_no_trees_are_refused() {
    let leaf = |id| page(id, LEAF, &[put(2)]);
    let mut too_many = leaf(3);
    too_many[10] = 200;
    let mut far = leaf(3);
    far[20..24].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut overlapping = page(3, LEAF, &[put(2), put(3)]);
    overlapping[36..40].copy_from_slice(&32_u32.to_le_bytes());
    let mut long = leaf(3);
    long[12..16].copy_from_slice(&1_u32.to_le_bytes());
    let mut longest = leaf(3);
    longest[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    for (pages, reason) in [
        (vec![buckets(), page(3, BRANCH, &[child(2, 3)])], "page 3: it belongs to two places"),
        (vec![buckets(), page(3, BRANCH, &[child(2, 2)])], "page 2: it belongs to two places"),
        (
            vec![buckets(), page(3, BRANCH, &[child(2, 4), child(3, 4)]), page(4, LEAF, &[put(3)])],
            "page 4: it belongs to two places",
        ),
        (vec![buckets(), page(3, BRANCH, &[child(2, 9)])], "page 9: there is no such page"),
        (vec![buckets(), page(3, BRANCH, &[child(2, 1)])], "page 1: there is no such page"),
        (vec![buckets(), page(3, BRANCH, &[child(2, u64::MAX)])], "there is no such page"),
        (vec![buckets(), page(3, BRANCH, &[])], "page 3: it is empty"),
        (vec![buckets(), page(3, BRANCH, &[child(2, 4)]), page(4, LEAF, &[])], "page 4: it is empty"),
        (vec![buckets(), leaf(7)], "page 3: it says that it is another page"),
        (vec![buckets(), page(3, 16, &[])], "page 3: it is neither a branch nor a leaf"),
        (vec![buckets(), vec![0; SIZE]], "page 3: it says that it is another page"),
        (vec![buckets(), too_many], "page 3: an element is not as bbolt writes it"),
        (vec![buckets(), far], "page 3: an element is not as bbolt writes it"),
        (vec![buckets(), overlapping], "page 3: an element is not as bbolt writes it"),
        (vec![buckets(), long], "page 3: it goes on beyond the end"),
        (vec![buckets(), longest], "page 3: it goes on beyond the end"),
        (vec![buckets(), page(3, LEAF, &[put(3), put(2)])], "page 3: its keys are not in order"),
        (vec![buckets(), page(3, LEAF, &[put(2), put(2)])], "page 3: its keys are not in order"),
        (
            vec![
                buckets(),
                page(3, BRANCH, &[child(2, 4), child(4, 5)]),
                page(4, LEAF, &[put(2), put(4)]),
                page(5, LEAF, &[put(4)]),
            ],
            "page 4: it has keys that belong to another page",
        ),
        (
            vec![
                buckets(),
                page(3, BRANCH, &[child(2, 4)]),
                page(4, BRANCH, &[child(2, 5), child(5, 6)]),
                page(5, LEAF, &[put(6)]),
                page(6, LEAF, &[put(7)]),
            ],
            "page 5: it has keys that belong to another page",
        ),
    ] {
        let text = refusal(&file(&pages));
        assert!(text.contains(reason), "{text}, expected {reason}");
    }
}

#[test]
fn a_chain_of_branches_that_no_file_could_need_is_refused() {
    let mut pages = vec![buckets()];
    pages.extend((3..80).map(|id| page(id, BRANCH, &[child(2, id + 1)])));
    pages.push(page(80, LEAF, &[put(2)]));
    assert!(refusal(&file(&pages)).contains("deeper than any"));
}

#[test]
fn revisions_that_contradict_their_place_are_refused() {
    let with_key = |key: Vec<u8>| vec![(0, key, value("/k", 2, 2))];
    let with_value = |value: Vec<u8>| vec![(0, key(2), value)];
    let negative = [&[0xff; 8][..], b"_", &[0; 8]].concat();
    for (elements, reason) in [
        (with_key(key(2)[..16].to_vec()), "a key in it is not a revision"),
        (with_key([key(2), b"x".to_vec()].concat()), "a key in it is not a revision"),
        (with_key([key(2), b"tt".to_vec()].concat()), "a key in it is not a revision"),
        (with_key(negative), "a key in it is not a revision"),
        (vec![bucket("nested", 9)], "a key in it is not a revision"),
        (with_key([key(2), b"t".to_vec()].concat()), "a value in it belongs to another revision"),
        (with_value(value("/k", 2, 3)), "a value in it belongs to another revision"),
        (with_value(value("/k", 3, 2)), "a value in it belongs to another revision"),
        (with_value(value("", 2, 2)), "a value in it belongs to another revision"),
        (with_value(Vec::new()), "a value in it belongs to another revision"),
        (with_value(b"\xff".to_vec()), "a value in it is not a KeyValue of etcd"),
        (with_value(b"\x08\x01".to_vec()), "a value in it is not a KeyValue of etcd"),
        (vec![(2, key(2), value("/k", 2, 2))], "an element is not as bbolt writes it"),
    ] {
        let text = refusal(&file(&[buckets(), page(3, LEAF, &elements)]));
        assert!(text.contains(reason), "{text}, expected {reason}");
    }
}

#[test]
fn deletions_and_overwritten_values_do_not_come_back() {
    let deleted = |revision: u8, name: &str| {
        let size = u8::try_from(name.len()).unwrap();
        (0, [key(revision), b"t".to_vec()].concat(), [&[0x0a, size], name.as_bytes()].concat())
    };
    let again = (0, key(6), value("/k3", 3, 6));
    let elements = [put(2), put(3), put(4), deleted(5, "/k2"), again, deleted(7, "/never")];
    let entries = read(&file(&[buckets(), page(3, LEAF, &elements)])).unwrap();
    let found: Vec<_> = entries
        .iter()
        .map(|entry| (entry.key.as_slice(), entry.create_revision, entry.mod_revision))
        .collect();
    assert_eq!(found, [(&b"/k3"[..], 3, 6), (b"/k4", 4, 4)]);
}

#[test]
fn an_empty_store_is_an_empty_table_and_not_an_error() {
    assert_eq!(read(&file(&[buckets(), page(3, LEAF, &[])])).unwrap(), []);
    let inline = (1, b"key".to_vec(), [vec![0; 16], page(0, LEAF, &[])].concat());
    assert_eq!(read(&file(&[page(2, LEAF, &[inline])])).unwrap(), []);
}

#[test]
fn a_small_bucket_inside_of_its_page_is_checked_as_any_other() {
    let inline =
        |content: Vec<u8>| file(&[page(2, LEAF, &[(1, b"key".to_vec(), [vec![0; 16], content].concat())])]);
    assert_eq!(names(&inline(page(0, LEAF, &[put(2), put(3)]))), ["/k3", "/k2"]);
    for (content, reason) in [
        (page(0, LEAF, &[put(3), put(2)]), "its keys are not in order"),
        (page(0, BRANCH, &[child(2, 3)]), "a small bucket is not a leaf"),
        (page(5, LEAF, &[put(2)]), "it says that it is another page"),
        (Vec::new(), "it is too short for a page"),
    ] {
        let text = refusal(&inline(content));
        assert!(text.contains(reason), "{text}, expected {reason}");
    }
}

#[test]
fn what_is_no_database_of_etcd_is_called_that() {
    let no_header = (1, b"key".to_vec(), vec![0; 8]);
    for (bytes, reason) in [
        (Vec::new(), "it is empty"),
        (vec![0; 32], "it is empty"),
        (vec![0; 4096], "neither of its first two pages is a meta page"),
        (vec![0x1f; 100_000], "neither of its first two pages is a meta page"),
        (file(&[page(2, LEAF, &[bucket("other", 3)]), page(3, LEAF, &[])]), "without etcd's bucket 'key'"),
        (file(&[page(2, LEAF, &[(0, b"key".to_vec(), b"value".to_vec())])]), "without etcd's bucket 'key'"),
        (file(&[page(2, LEAF, &[no_header])]), "the bucket 'key' has no header"),
    ] {
        let text = refusal(&bytes);
        assert!(text.contains(reason), "{text}, expected {reason}");
    }
}

#[test]
fn one_damaged_page_at_the_front_leaves_the_other_and_shows() {
    let pages = [buckets(), page(3, LEAF, &[put(2)])];
    for broken in [0, SIZE] {
        let mut bytes = file(&pages);
        bytes[broken + 60] ^= 1;
        let snapshot = Snapshot::open(bytes.as_slice()).unwrap();
        assert!(snapshot.may_lack_a_transaction());
        assert_eq!(names(&bytes), ["/k2"]);
    }
    let mut bytes = file(&pages);
    for at in [60, SIZE + 60] {
        bytes[at] ^= 1;
    }
    assert!(refusal(&bytes).contains("neither of its first two pages"));
}

#[test]
fn a_file_that_says_it_is_larger_than_it_is_costs_nothing() {
    for end in [5, 1 << 40, u64::MAX / 2, u64::MAX] {
        let bytes = [meta(0, SIZE, end, 8), vec![0; 4 * SIZE - 80]].concat();
        assert!(refusal(&bytes).contains("shorter than its first page says"), "{end}");
    }
}
