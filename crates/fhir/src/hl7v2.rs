//! HL7 v2 as pure data: MLLP frames, messages, acknowledgements, and the mapping to FHIR R4.
//!
//! A message goes `frame` → [`charset::decode`] → [`Message::parse`] → `map::map`; the answer is made by [`ack`].
//! Nothing here does I/O or looks at a clock, and nothing quotes content: a [`Problem`] names segment and field only.
//! What a message says and the mapping has no place for is reported as a problem and stays in the stored original.
//!
//! Source: HL7 v2.9 chapter 2 (control, encoding rules), MLLP release 1, and the implementation guide "HL7 Version 2
//! to FHIR" 1.0.0 (<https://hl7.org/fhir/uv/v2mappings/>).

pub mod ack;
pub mod batch;
pub mod charset;
pub mod frame;
pub mod map;

mod header;
mod message;
mod problem;

pub use header::{AckMode, Header, peek};
pub use message::{Delimiters, Field, Message, Segment, Value};
pub use problem::{ErrorCode, Location, Problem, Weight};

use crate::parse::Resource;

/// What became of a message, as a transaction Bundle ready to be carried out.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The message's header.
    pub header: Header,
    /// A Bundle of type transaction, as text and tree.
    pub bundle: Resource,
    /// What has no place in FHIR or was odd; none of it refuses the message.
    pub problems: Vec<Problem>,
}

/// A message that is not taken: its header, if that could be read, and every reason.
pub type Refusal = (Option<Box<Header>>, Vec<Problem>);

/// Takes a message the whole way from its bytes to a Bundle.
///
/// # Errors
/// Every reason to refuse it, the first one decisive for the acknowledgement; with the header if that could be read.
pub fn take(bytes: &[u8], context: &map::Context) -> Result<Taken, Refusal> {
    let text =
        charset::decode(bytes).map_err(|problem| (peek(bytes).map(Box::new), vec![problem]))?;
    let message =
        Message::parse(&text).map_err(|problem| (peek(bytes).map(Box::new), vec![problem]))?;
    let header = match Header::read(&message) {
        Ok(header) => header,
        Err(problems) => return Err((peek(bytes).map(Box::new), problems)),
    };
    let refuse = |problems| (Some(Box::new(header.clone())), problems);
    let mapped = map::map(&message, &header, bytes, context).map_err(refuse)?;
    let bundle = crate::parse::edited(mapped.bundle.to_string()).map_err(|_| {
        refuse(vec![Problem::error(
            ErrorCode::Internal,
            "the mapped Bundle can't be read",
        )])
    })?;
    Ok(Taken {
        header,
        bundle,
        problems: mapped.problems,
    })
}

#[cfg(test)]
mod tests;
