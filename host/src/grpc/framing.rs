//! Where messages begin and end in the bytes of a call, before anybody decodes them.
//!
//! Owns the five bytes in front of each. It keeps none of a message's own, and says nothing about whether one is
//! valid: whoever decodes them does.

use std::collections::VecDeque;

/// A flag and the length.
const PREFIX: usize = 5;

/// How far the bytes of a call have come.
#[derive(Debug, Default)]
pub(super) struct Framing {
    prefix: [u8; PREFIX],
    /// Bytes of the prefix that are there.
    read: usize,
    /// Bytes of the message that are still to come, once its prefix is whole.
    missing: usize,
    /// Bytes of this message so far, with its prefix.
    begun: usize,
    /// Whole messages that nobody has asked for yet, with their prefixes.
    whole: VecDeque<usize>,
}

impl Framing {
    /// Goes on with these bytes. Returns the longest message that they announce, without its prefix.
    pub(super) fn arrived(&mut self, mut bytes: &[u8]) -> usize {
        let mut announced = 0;
        while !bytes.is_empty() {
            let wanted = if self.read < PREFIX { PREFIX - self.read } else { self.missing };
            let (now, rest) = bytes.split_at(wanted.min(bytes.len()));
            bytes = rest;
            self.begun += now.len();
            if self.read == PREFIX {
                self.missing -= now.len();
            } else {
                self.prefix[self.read..self.read + now.len()].copy_from_slice(now);
                self.read += now.len();
                if self.read == PREFIX {
                    self.missing = self.length();
                    announced = announced.max(self.missing);
                }
            }
            if self.read == PREFIX && self.missing == 0 {
                self.whole.push_back(std::mem::take(&mut self.begun));
                self.read = 0;
            }
        }
        announced
    }

    fn length(&self) -> usize {
        let [_, length @ ..] = self.prefix;
        usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX)
    }

    /// Whether a message has begun and is not whole.
    pub(super) fn is_midway(&self) -> bool {
        self.begun > 0
    }

    /// How many bytes the first whole message took that was not asked for before.
    pub(super) fn take(&mut self) -> Option<usize> {
        self.whole.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(lengths: &[usize]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for &length in lengths {
            bytes.push(0);
            bytes.extend_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
            bytes.resize(bytes.len() + length, 7);
        }
        bytes
    }

    #[test]
    fn a_lie_about_the_length_is_told_and_costs_nothing() {
        let mut framing = Framing::default();
        assert_eq!(framing.arrived(&[1, 0xff, 0xff, 0xff]), 0);
        assert_eq!(framing.arrived(&[0xff, 1, 2]), u32::MAX as usize);
        assert!(framing.is_midway());
        assert_eq!(framing.take(), None);
    }

    proptest! {
        #[test]
        fn messages_are_found_however_the_bytes_come(
            lengths in proptest::collection::vec(0_usize..300, 0..20),
            cuts in proptest::collection::vec(1_usize..50, 1..20),
            missing in 0_usize..4,
        ) {
            let bytes = framed(&lengths);
            let bytes = &bytes[..bytes.len().saturating_sub(missing)];
            let mut framing = Framing::default();
            let (mut rest, mut cuts, mut announced) = (bytes, cuts.iter().cycle(), 0);
            while !rest.is_empty() {
                let (now, later) = rest.split_at(cuts.next().unwrap_or(&1).min(&rest.len()).to_owned());
                announced = announced.max(framing.arrived(now));
                rest = later;
            }
            let found: Vec<usize> = std::iter::from_fn(|| framing.take()).collect();
            let is_cut_off = missing > 0 && !lengths.is_empty();
            let whole = &lengths[..lengths.len() - usize::from(is_cut_off)];
            prop_assert_eq!(&found, &whole.iter().map(|length| length + PREFIX).collect::<Vec<_>>());
            prop_assert_eq!(framing.is_midway(), is_cut_off);
            prop_assert!(whole.iter().all(|&length| length <= announced));
        }
    }
}
