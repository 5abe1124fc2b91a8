//! What comes back is what was remembered, or nothing.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::{key, pairs, tensors};
use crate::cache::entry::now_ms;
use crate::cache::{Entry, Value};
use crate::config::CacheCompression;
use crate::error::{Error, ErrorCode};
use crate::model::tensor::{DataType, Tensor};
use crate::plugin::Response;

const LIMIT: usize = 1 << 20;

fn value() -> impl Strategy<Value = Value> {
    let codes = (0..ErrorCode::ALL.len()).prop_map(|at| ErrorCode::ALL[at]);
    prop_oneof![
        tensors().prop_map(Value::Tensors),
        (".{0,20}", prop::collection::vec(any::<u8>(), 0..200), pairs()).prop_map(
            |(content_type, body, parameters)| {
                Value::Response(Response { content_type, body: body.into(), parameters })
            }
        ),
        (codes, ".{0,20}", pairs()).prop_map(|(code, message, details)| Value::Refusal(Error {
            details,
            ..Error::new(code, message)
        })),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    (value(), any::<u64>(), any::<u32>(), any::<u32>()).prop_map(|(value, born_ms, ttl, stale)| Entry {
        value,
        born_ms,
        ttl: Duration::from_millis(ttl.into()),
        stale: Duration::from_millis(stale.into()),
    })
}

fn compression() -> impl Strategy<Value = CacheCompression> {
    prop_oneof![Just(CacheCompression::None), Just(CacheCompression::Zstd)]
}

/// The same with a checksum that fits, as somebody would write it who wants to be believed.
fn signed(mut bytes: Vec<u8>) -> Bytes {
    let end = bytes.len().saturating_sub(8);
    bytes.truncate(end);
    let checksum = xxhash_rust::xxh3::xxh3_64(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes.into()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]
    #[test]
    fn an_entry_comes_back_as_it_was(entry in entry(), compression in compression()) {
        let bytes = entry.encode(&key(1), compression);
        prop_assert_eq!(Entry::decode(&key(1), &bytes, LIMIT), Some(entry.clone()));
        prop_assert_eq!(Entry::decode(&key(2), &bytes, LIMIT), None, "it is another key's");
        prop_assert_eq!(&entry.value.compact(), &entry.value);
    }

    #[test]
    fn a_damaged_entry_is_none(entry in entry(), compression in compression(), at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let whole = entry.encode(&key(1), compression);
        let mut damaged = whole.to_vec();
        let place = at.index(damaged.len());
        damaged[place] ^= 1 << bit;
        prop_assert_eq!(Entry::decode(&key(1), &damaged.into(), LIMIT), None);
        prop_assert_eq!(Entry::decode(&key(1), &whole.slice(..place), LIMIT), None, "it is cut off");
        let longer = Bytes::from([&whole[..], &[0]].concat());
        prop_assert_eq!(Entry::decode(&key(1), &longer, LIMIT), None);
    }

    /// Bytes that lie, under a checksum that fits: something or nothing comes of them, and no panic.
    #[test]
    fn a_forged_entry_does_no_harm(
        entry in entry(),
        compression in compression(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = entry.encode(&key(1), compression).to_vec();
        for (at, byte) in &changes {
            let place = at.index(bytes.len());
            bytes[place] = *byte;
        }
        let _ = Entry::decode(&key(1), &signed(bytes.clone()), LIMIT);
        bytes.truncate(cut.index(bytes.len()));
        let _ = Entry::decode(&key(1), &signed(bytes), LIMIT);
    }

    #[test]
    fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(Entry::decode(&key(1), &Bytes::from(bytes), LIMIT), None);
    }
}

fn zeros(bytes: usize) -> Entry {
    let value = Value::Tensors(vec![Tensor::new("y", DataType::Uint8, vec![bytes], vec![0; bytes]).unwrap()]);
    Entry { value, born_ms: now_ms(), ttl: Duration::from_secs(1), stale: Duration::ZERO }
}

#[test]
fn lengths_that_lie_take_no_memory() {
    // What says that it is very long when it is unpacked.
    let packed = zeros(1 << 16).encode(&key(1), CacheCompression::Zstd);
    assert!(packed.len() < 1 << 12, "{}", packed.len());
    assert!(Entry::decode(&key(1), &packed, 1 << 20).is_some());
    assert!(Entry::decode(&key(1), &packed, 1 << 10).is_none(), "more than an entry may have");
    let mut bomb = packed.to_vec();
    let length_at = 4 + 1 + 32 + 3 * 8;
    for length in [0_u64, 1, 1 << 15, 1 << 40, u64::MAX] {
        bomb[length_at..length_at + 8].copy_from_slice(&length.to_le_bytes());
        assert_eq!(Entry::decode(&key(1), &signed(bomb.clone()), 1 << 20), None, "{length}");
    }
    // A list that says that it is very long.
    let plain = zeros(1).encode(&key(1), CacheCompression::None).to_vec();
    let count_at = length_at + 8 + 1;
    for count in [2_u64, 1 << 30, u64::MAX] {
        let mut lying = plain.clone();
        lying[count_at..count_at + 8].copy_from_slice(&count.to_le_bytes());
        assert_eq!(Entry::decode(&key(1), &signed(lying), usize::MAX), None, "{count}");
    }
}

#[test]
fn what_is_remembered_has_memory_of_its_own() {
    let batch = Bytes::from(vec![7_u8; 1000]);
    let slice = Tensor::new("y", DataType::Uint8, vec![10], batch.slice(500..510)).unwrap();
    let Value::Tensors(own) = Value::Tensors(vec![slice.clone(), slice]).compact() else {
        panic!("another kind");
    };
    drop(batch);
    let inside = own[0].data.as_ptr() as usize + 10 == own[1].data.as_ptr() as usize;
    assert!(inside, "one piece of memory for both");
    assert!(own[0].data.is_unique() || !own[1].data.is_empty());
    assert_eq!(own[1].data, vec![7; 10]);
}

#[test]
fn the_time_of_another_machine_may_be_ahead() {
    let entry = Entry { born_ms: 2_000, ..zeros(1) };
    assert_eq!(entry.age(1_000), Duration::ZERO);
    assert_eq!(entry.lifetime(1_000), Duration::from_secs(1));
    assert_eq!(
        (entry.age(2_400), entry.lifetime(2_400)),
        (Duration::from_millis(400), Duration::from_millis(600))
    );
    assert_eq!(entry.lifetime(9_000), Duration::ZERO);
}
