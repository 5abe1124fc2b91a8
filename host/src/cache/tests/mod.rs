//! Tests of remembered answers.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod entries;
mod flights;
mod keys;
mod questions;
mod shared;

use bytes::Bytes;
use proptest::prelude::*;

use super::{Key, Scope, Seed, SeedParts, Subject};
use crate::model::tensor::{DataType, Tensor, push_bytes_element};

/// Any tensor that is in order, with names and bytes that are often alike.
fn tensors() -> impl Strategy<Value = Vec<Tensor>> {
    let numbers =
        ("[ab]{0,2}", prop::collection::vec(0_usize..3, 0..3), 0_u8..2).prop_map(|(name, shape, fill)| {
            let count: usize = shape.iter().product();
            Tensor::new(name, DataType::Uint8, shape, vec![fill; count]).unwrap()
        });
    let texts = ("[ab]{0,2}", prop::collection::vec("[ab]{0,2}", 0..3)).prop_map(|(name, texts)| {
        let mut data = Vec::new();
        texts.iter().for_each(|text| push_bytes_element(&mut data, text.as_bytes()).unwrap());
        Tensor::new(name, DataType::Bytes, vec![texts.len()], Bytes::from(data)).unwrap()
    });
    prop::collection::vec(prop_oneof![numbers, texts], 0..3)
}

fn pairs() -> impl Strategy<Value = Vec<(String, String)>> {
    prop::collection::vec(("[ab]{0,2}", "[ab]{0,2}"), 0..3)
}

/// A key of nothing in particular.
fn key(number: u8) -> Key {
    let seed = Seed::new(&SeedParts::default());
    Key::new(
        &seed,
        Scope { owner: None, epoch: 0 },
        Subject::Run { inputs: &[], wanted: &[usize::from(number)] },
    )
}
