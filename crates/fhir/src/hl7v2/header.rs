//! The header of a message (MSH), checked, and what it says about acknowledging.

use super::{
    Message, Segment, Value,
    problem::{ErrorCode, Problem},
};

/// What MSH says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// MSH-3.
    pub sending_application: Value,
    /// MSH-4: whom the message comes from.
    pub sending_facility: Value,
    /// MSH-5.
    pub receiving_application: Value,
    /// MSH-6.
    pub receiving_facility: Value,
    /// MSH-7, as written.
    pub time: Option<String>,
    /// MSH-9.1, such as `ADT`.
    pub message_type: String,
    /// MSH-9.2, such as `A01`; some senders leave it out where the structure says it.
    pub event: Option<String>,
    /// MSH-10.
    pub control_id: String,
    /// MSH-11.1: P, T or D; P where it is empty.
    pub processing_id: String,
    /// MSH-12.1, such as `2.5.1`.
    pub version: String,
    /// MSH-15, when a commit acknowledgement is wanted.
    pub accept_ack: Option<String>,
    /// MSH-16, when an application acknowledgement is wanted.
    pub application_ack: Option<String>,
}

/// How a message wants to be acknowledged (HL7 v2.9, 2.9.2 and 2.9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckMode {
    /// MSH-15 and MSH-16 are empty: AA, AE or AR.
    Original,
    /// A commit acknowledgement is asked for: CA, CE or CR.
    Commit,
    /// Only an application acknowledgement is asked for.
    Application,
    /// The sender asked for none.
    Silent,
}

impl Header {
    /// Reads and checks MSH.
    ///
    /// # Errors
    /// Everything that keeps the message from being taken: no type, no control id, an unknown version or processing id.
    pub fn read(message: &Message) -> Result<Self, Vec<Problem>> {
        let Some(msh) = message.segment("MSH") else {
            let what = "a message begins with the segment MSH";
            return Err(vec![Problem::error(ErrorCode::SegmentSequence, what)]);
        };
        let header = Self::of(msh);
        let problems = header.check(msh);
        if problems.is_empty() {
            Ok(header)
        } else {
            Err(problems)
        }
    }

    fn of(msh: &Segment) -> Self {
        let text = |field| msh.text(field).unwrap_or_default().to_owned();
        let value = |field| msh.first(field).cloned().unwrap_or_default();
        let kind = value(9);
        let structure = kind.text(3).and_then(|structure| structure.split_once('_'));
        let optional = |field| msh.text(field).map(str::to_uppercase);
        Self {
            sending_application: value(3),
            sending_facility: value(4),
            receiving_application: value(5),
            receiving_facility: value(6),
            time: msh.text(7).map(str::to_owned),
            message_type: kind.text(1).unwrap_or_default().to_uppercase(),
            event: kind
                .text(2)
                .or(structure.map(|(_, event)| event))
                .map(str::to_uppercase),
            control_id: text(10),
            // Many senders leave it out; what comes over a line is meant to count.
            processing_id: msh.text(11).unwrap_or("P").to_uppercase(),
            version: text(12),
            accept_ack: optional(15),
            application_ack: optional(16),
        }
    }

    fn check(&self, msh: &Segment) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.message_type.is_empty() {
            let what = "the message type is missing";
            problems.push(Problem::error(ErrorCode::RequiredFieldMissing, what).at(msh.at(9)));
        }
        if self.control_id.is_empty() {
            let what = "the message control id is missing";
            problems.push(Problem::error(ErrorCode::RequiredFieldMissing, what).at(msh.at(10)));
        } else if self.control_id.len() > CONTROL_ID_MAX {
            let what = "the message control id is longer than 199 characters";
            problems.push(Problem::error(ErrorCode::DataType, what).at(msh.at(10)));
        }
        if !matches!(self.processing_id.as_str(), "P" | "T" | "D") {
            let what = "the processing id has to be P, T or D";
            problems.push(Problem::error(ErrorCode::UnsupportedProcessingId, what).at(msh.at(11)));
        }
        if !VERSIONS.contains(&self.version.as_str()) {
            let what = "versions 2.1 to 2.9.1 are taken";
            problems.push(Problem::error(ErrorCode::UnsupportedVersion, what).at(msh.at(12)));
        }
        problems
    }

    /// How the sender wants its answer; `refused` says that the message is not taken.
    #[must_use]
    pub fn ack_mode(&self, refused: bool) -> AckMode {
        let wanted = |condition: &Option<String>| match condition.as_deref() {
            Some("AL") => true,
            Some("ER") => refused,
            Some("SU") => !refused,
            _ => false,
        };
        if self.accept_ack.is_none() && self.application_ack.is_none() {
            AckMode::Original
        } else if wanted(&self.accept_ack) {
            AckMode::Commit
        } else if wanted(&self.application_ack) {
            AckMode::Application
        } else {
            AckMode::Silent
        }
    }

    /// Whom the message comes from, in one line: the names of facility and application.
    #[must_use]
    pub fn sender(&self) -> String {
        let name = |value: &Value| {
            let name = value.text(1).or_else(|| value.text(2));
            name.unwrap_or("-").to_owned()
        };
        format!(
            "{}/{}",
            name(&self.sending_facility),
            name(&self.sending_application)
        )
    }

    /// Type and event, such as `ADT^A01`.
    #[must_use]
    pub fn kind(&self) -> String {
        match &self.event {
            Some(event) => format!("{}^{event}", self.message_type),
            None => self.message_type.clone(),
        }
    }
}

/// What can be said of the header of a message that can't be taken (of its beginning, where it is too large), so that
/// its sender gets an answer it recognises.
#[must_use]
pub fn peek(bytes: &[u8]) -> Option<Header> {
    let line = bytes
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(bytes)
        .split(|byte| matches!(byte, b'\r' | b'\n'))
        .find(|line| !line.is_empty())?;
    let message = Message::parse(&String::from_utf8_lossy(line)).ok()?;
    message.segment("MSH").map(Header::of)
}

/// MSH-10 holds up to 199 characters since 2.7.
const CONTROL_ID_MAX: usize = 199;
const VERSIONS: [&str; 15] = [
    "2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.7.1", "2.8", "2.8.1",
    "2.8.2", "2.9", "2.9.1",
];
