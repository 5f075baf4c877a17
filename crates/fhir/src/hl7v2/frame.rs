//! MLLP: where a message begins and ends in a stream of bytes.
//!
//! A frame is `<VT> message <FS> <CR>` (0x0B … 0x1C 0x0D). Senders that leave out the last byte are understood, line
//! ends between frames are not garbage, and a vertical tab inside a text (word processors write them) does not begin a
//! frame unless `MSH`, `FHS` or `BHS` follows it. Whatever else stands between frames is skipped and counted.

use std::collections::VecDeque;

/// First byte of a frame.
const START: u8 = 0x0B;
/// Last byte of a message.
const END: u8 = 0x1C;
/// What follows it.
const CARRIAGE_RETURN: u8 = 0x0D;
/// Garbage is told of at the latest after so many bytes, so that a listener can give up on a stranger.
const GARBAGE_STEP: usize = 4096;
/// What is kept of an oversized message: enough for its header.
const HEAD_MAX: usize = 2048;

/// Something that was found in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A whole message, without its frame.
    Message(Vec<u8>),
    /// A message over the limit; its end was not waited for.
    Oversized {
        /// Its beginning, at most 2,048 bytes.
        head: Vec<u8>,
    },
    /// A message that broke off: another frame began inside it, or the stream ended.
    Truncated {
        /// Bytes that had come.
        bytes: usize,
    },
    /// Bytes outside any frame.
    Garbage {
        /// How many.
        bytes: usize,
    },
}

/// Takes a stream apart, piece by piece. How the stream is cut into pieces never changes what is found.
#[derive(Clone, Debug)]
pub struct Framer {
    limit_bytes: usize,
    state: State,
    frame: Vec<u8>,
    garbage: usize,
    found: VecDeque<Event>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Between,
    Inside,
    /// Inside a message over the limit; only the last four bytes are kept, to see the next one begin.
    Skipping,
}

impl Framer {
    /// A framer for messages of at most so many bytes.
    #[must_use]
    pub fn new(limit_bytes: usize) -> Self {
        Self {
            limit_bytes,
            state: State::Between,
            frame: Vec::new(),
            garbage: 0,
            found: VecDeque::new(),
        }
    }

    /// Takes in the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match self.state {
                State::Between => self.between(*byte),
                State::Inside => self.inside(*byte),
                State::Skipping => self.skipping(*byte),
            }
        }
    }

    /// What was found next.
    pub fn next_event(&mut self) -> Option<Event> {
        self.found.pop_front()
    }

    /// Whether a message has begun and not ended.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        self.state != State::Between
    }

    /// Says that the stream has ended: what is left over is found too.
    pub fn finish(&mut self) {
        self.tell_garbage();
        if self.state == State::Inside {
            self.found.push_back(Event::Truncated {
                bytes: self.frame.len(),
            });
        }
        self.state = State::Between;
        self.frame = Vec::new();
    }

    fn between(&mut self, byte: u8) {
        match byte {
            START => {
                self.tell_garbage();
                self.state = State::Inside;
                self.frame.clear();
            }
            CARRIAGE_RETURN | b'\n' => {}
            _ => {
                self.garbage = self.garbage.saturating_add(1);
                if self.garbage >= GARBAGE_STEP {
                    self.tell_garbage();
                }
            }
        }
    }

    fn inside(&mut self, byte: u8) {
        if byte == END {
            self.state = State::Between;
            self.found
                .push_back(Event::Message(std::mem::take(&mut self.frame)));
            return;
        }
        self.frame.push(byte);
        if self.begins_anew() {
            let bytes = self.frame.len().saturating_sub(OPENINGS_LENGTH);
            self.found.push_back(Event::Truncated { bytes });
            self.frame.drain(..bytes.saturating_add(1));
        } else if self.frame.len() > self.limit_bytes {
            let mut head = std::mem::take(&mut self.frame);
            head.truncate(HEAD_MAX);
            self.found.push_back(Event::Oversized { head });
            self.state = State::Skipping;
        }
    }

    fn skipping(&mut self, byte: u8) {
        if byte == END {
            self.state = State::Between;
            self.frame.clear();
            return;
        }
        if self.frame.len() >= OPENINGS_LENGTH {
            self.frame.remove(0);
        }
        self.frame.push(byte);
        if self.begins_anew() {
            self.frame.remove(0);
            self.state = State::Inside;
        }
    }

    /// Whether the last bytes are the beginning of another frame.
    fn begins_anew(&self) -> bool {
        OPENINGS
            .iter()
            .any(|opening| self.frame.ends_with(*opening))
    }

    fn tell_garbage(&mut self) {
        if self.garbage > 0 {
            self.found.push_back(Event::Garbage {
                bytes: self.garbage,
            });
            self.garbage = 0;
        }
    }
}

/// A message in its frame.
#[must_use]
pub fn wrap(message: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(message.len().saturating_add(3));
    frame.push(START);
    frame.extend_from_slice(message);
    frame.extend([END, CARRIAGE_RETURN]);
    frame
}

const OPENINGS: [&[u8; OPENINGS_LENGTH]; 3] = [b"\x0bMSH", b"\x0bFHS", b"\x0bBHS"];
const OPENINGS_LENGTH: usize = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events(limit: usize, pieces: &[&[u8]]) -> Vec<Event> {
        let mut framer = Framer::new(limit);
        for piece in pieces {
            framer.push(piece);
        }
        framer.finish();
        std::iter::from_fn(|| framer.next_event()).collect()
    }

    fn message(text: &str) -> Event {
        Event::Message(text.as_bytes().to_vec())
    }

    /// NFR-INTEROP1: frames are found again after anything that is none.
    #[test]
    fn frames_are_found_among_anything() {
        let cases: [(&[u8], Vec<Event>); 9] = [
            (b"\x0bMSH|a\x1c\r", vec![message("MSH|a")]),
            (
                b"\x0bMSH|a\x1c\r\n\r\x0bMSH|b\x1c\r",
                vec![message("MSH|a"), message("MSH|b")],
            ),
            // The closing carriage return left out.
            (
                b"\x0bMSH|a\x1c\x0bMSH|b\x1c",
                vec![message("MSH|a"), message("MSH|b")],
            ),
            (
                b"GET / \x0bMSH|a\x1c\r",
                vec![Event::Garbage { bytes: 6 }, message("MSH|a")],
            ),
            // One breaks off, the next one is whole.
            (
                b"\x0bMSH|a\r\x0bMSH|b\x1c\r",
                vec![Event::Truncated { bytes: 6 }, message("MSH|b")],
            ),
            (b"\x0bMSH|a", vec![Event::Truncated { bytes: 5 }]),
            // A vertical tab in a text is content.
            (b"\x0bMSH|a\x0bb\x1c\r", vec![message("MSH|a\x0bb")]),
            (b"", vec![]),
            (
                b"\x0b123456789012345678901\x1c\r\x0bMSH|b\x1c\r",
                vec![
                    Event::Oversized {
                        head: b"123456789012345678901".to_vec(),
                    },
                    message("MSH|b"),
                ],
            ),
        ];
        for (bytes, expected) in cases {
            assert_eq!(events(20, &[bytes]), expected, "{bytes:?}");
        }
        // An oversized one that never ends does not swallow the next.
        let endless = [
            b"\x0b".to_vec(),
            vec![b'x'; 50],
            b"\x0bMSH|c\x1c\r".to_vec(),
        ]
        .concat();
        let found = events(20, &[&endless]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[1], message("MSH|c"));
    }

    proptest! {
        #[test]
        fn how_a_stream_is_cut_does_not_matter(
            bytes in proptest::collection::vec(
                prop_oneof![Just(START), Just(END), Just(CARRIAGE_RETURN), Just(b'M'), Just(b'S'), Just(b'H'), any::<u8>()],
                0..200,
            ),
            cut in 0_usize..200,
        ) {
            let cut = cut.min(bytes.len());
            let singly: Vec<&[u8]> = bytes.chunks(1).collect();
            let whole = events(40, &[&bytes]);
            prop_assert_eq!(&events(40, &[&bytes[..cut], &bytes[cut..]]), &whole);
            prop_assert_eq!(&events(40, &singly), &whole);
        }

        #[test]
        fn wrapped_messages_come_back(messages in proptest::collection::vec("[ -~\r]{0,60}", 0..6)) {
            let stream: Vec<u8> = messages.iter().flat_map(|m| wrap(m.as_bytes())).collect();
            let expected: Vec<Event> = messages.iter().map(|m| message(m)).collect();
            prop_assert_eq!(events(100, &[&stream]), expected);
        }
    }
}
