//! What the last finalized block says of consent, asked of the ledger once a block for each reader and log.
//!
//! An answer depends on the state and the time of that block alone, so within a block it cannot change; with the next
//! one everything known is forgotten.

use std::collections::HashMap;

use alloy_primitives::Address;
use parking_lot::Mutex;
use stele_core::consent::Permissions;

use crate::{Service, error::Result, session::Actor};

/// Answers of one block.
#[derive(Default)]
pub(crate) struct Consents {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    height: u64,
    slots: HashMap<Asked, u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Asked {
    who: Address,
    purposes: u16,
    log: Address,
}

impl Consents {
    fn get(&self, height: u64, asked: &Asked) -> Option<u64> {
        let known = self.known.lock();
        (known.height == height)
            .then(|| known.slots.get(asked).copied())
            .flatten()
    }

    fn keep(&self, height: u64, asked: Asked, slots: u64) {
        let mut known = self.known.lock();
        if known.height != height {
            known.height = height;
            known.slots.clear();
        }
        known.slots.insert(asked, slots);
    }
}

impl Service {
    /// Category slots of a log that the actor may read by the last finalized block.
    pub(crate) fn readable_slots(&self, actor: &Actor, log: Address) -> Result<u64> {
        let asked = Asked {
            who: actor.account,
            purposes: actor.purpose_bits(),
            log,
        };
        let height = self.ledger.height();
        if let Some(slots) = self.consents.get(height, &asked) {
            return Ok(slots);
        }
        let slots = if self.is_directory(log)? {
            u64::MAX
        } else {
            self.open_slots(actor, log, Permissions::READ)?
        };
        // The answer may be a newer block's than the height, and would then be kept for the wrong one.
        if self.ledger.height() == height {
            self.consents.keep(height, asked, slots);
        }
        Ok(slots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Asked = Asked {
        who: Address::repeat_byte(1),
        purposes: 1,
        log: Address::repeat_byte(2),
    };

    #[test]
    fn an_answer_is_kept_for_its_block_and_its_question_only() {
        let consents = Consents::default();
        assert_eq!(consents.get(7, &ASKED), None);
        consents.keep(7, ASKED, 0b101);
        assert_eq!(consents.get(7, &ASKED), Some(0b101));
        for other in [
            Asked {
                who: Address::repeat_byte(9),
                ..ASKED
            },
            Asked {
                purposes: 2,
                ..ASKED
            },
            Asked {
                log: Address::repeat_byte(9),
                ..ASKED
            },
        ] {
            assert_eq!(consents.get(7, &other), None);
        }
        assert_eq!(consents.get(8, &ASKED), None, "the next block asks anew");
        consents.keep(
            8,
            Asked {
                purposes: 2,
                ..ASKED
            },
            1,
        );
        assert_eq!(
            consents.get(8, &ASKED),
            None,
            "what the last block said is forgotten"
        );
    }
}
