//! What shows that Redis was emptied, though nobody was told.
//!
//! Owns a mark in each part of Redis: one of a server, and in a Cluster, where word of a flush comes from one node only,
//! one in each thirty-second of its slots. A mark that is another one, on a server that has not been started anew, was
//! taken away by a flush. It decides nothing about what follows from that.

use std::collections::BTreeMap;

use redis::Script;

use crate::store::Store;

/// Slots of a Cluster, and parts of them that have a mark each: a node with two parts in a row has one.
const SLOTS: u16 = 16_384;
const PARTS: u16 = 32;
/// Numbers that are tried for one in each part.
const TRIES: u32 = 10_000;

/// Which process this is, and the mark, which is made where there is none.
const LOOK: &str = "
local mark = redis.call('GET', KEYS[1])
if not mark then
  local time = redis.call('TIME')
  mark = time[1] .. '.' .. time[2]
  redis.call('SET', KEYS[1], mark)
end
return {string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or '', mark}";

/// A process and its mark.
type Mark = (Vec<u8>, Vec<u8>);

/// See the module.
#[derive(Debug)]
pub(super) struct Marks {
    script: Script,
    keys: Vec<String>,
    /// What was seen last, by the key.
    seen: BTreeMap<usize, Mark>,
    /// The key that is looked at next.
    next: usize,
}

impl Marks {
    /// The marks of this Redis.
    pub(super) fn new(store: &Store) -> Self {
        let tags = if store.is_cluster() { tags() } else { vec![0] };
        let key = |tag: u32| store.key("epochs", &format!("mark:{{{tag}}}"));
        let keys = tags.into_iter().map(key).collect();
        Self { script: Script::new(LOOK), keys, seen: BTreeMap::new(), next: 0 }
    }

    /// Whether a part of Redis was emptied since the last look. One that does not answer ends the look, so that a node
    /// of a Cluster that is away costs no more than a command; the others come first the next time.
    pub(super) async fn look(&mut self, store: &Store) -> bool {
        let mut was_emptied = false;
        for _ in 0..self.keys.len() {
            let at = self.next % self.keys.len();
            self.next = at + 1;
            let Some(key) = self.keys.get(at) else { break };
            let Ok(found) = store.run::<Mark>(&self.script, &[key], &[]).await else { break };
            let before = self.seen.insert(at, found.clone());
            was_emptied |= before.is_some_and(|(run, mark)| run == found.0 && mark != found.1);
        }
        was_emptied
    }

    /// What is seen next counts as what was there before: somebody has told of a flush.
    pub(super) fn forget(&mut self) {
        self.seen.clear();
    }
}

/// A number for each part of the slots, which has its slot there.
fn tags() -> Vec<u32> {
    let mut found = BTreeMap::new();
    for number in 0..TRIES {
        found.entry(slot(number.to_string().as_bytes()) / (SLOTS / PARTS)).or_insert(number);
        if found.len() == usize::from(PARTS) {
            break;
        }
    }
    found.into_values().collect()
}

/// The slot of a tag: CRC-16 (XMODEM), as Redis has it.
fn slot(tag: &[u8]) -> u16 {
    let shift = |crc: u16| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 };
    tag.iter().fold(0_u16, |crc, byte| (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| shift(crc))) % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_the_slots_has_a_tag() {
        assert_eq!(slot(b"123456789"), 0x31c3, "as the manual of Redis has it");
        let parts: Vec<u16> = tags().iter().map(|tag| slot(tag.to_string().as_bytes()) / 512).collect();
        assert_eq!(parts, (0..32).collect::<Vec<u16>>());
    }
}
