//! Acknowledgements (HL7 v2.9, 2.9 and 2.13.1): who is answered, how, and why.

use super::{AckMode, Delimiters, Header, Problem, Value};

/// HL7 table 0008.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// AA: taken.
    ApplicationAccept,
    /// AE: something in the message is wrong; kept for the operator.
    ApplicationError,
    /// AR: messages of this kind, or from this sender, are not taken, or not now.
    ApplicationReject,
    /// CA: taken and kept.
    CommitAccept,
    /// CE: not taken, as AE.
    CommitError,
    /// CR: not taken, as AR.
    CommitReject,
}

impl Code {
    /// The code for an outcome in the mode that the sender asked for; `None` if it wants no answer.
    #[must_use]
    pub fn of(mode: AckMode, problems: &[Problem]) -> Option<Self> {
        let error = problems.iter().find(|problem| problem.is_error());
        let rejected = error.map(Problem::is_rejection);
        Some(match (mode, rejected) {
            (AckMode::Silent, _) => return None,
            (AckMode::Original | AckMode::Application, None) => Self::ApplicationAccept,
            (AckMode::Original | AckMode::Application, Some(false)) => Self::ApplicationError,
            (AckMode::Original | AckMode::Application, Some(true)) => Self::ApplicationReject,
            (AckMode::Commit, None) => Self::CommitAccept,
            (AckMode::Commit, Some(false)) => Self::CommitError,
            (AckMode::Commit, Some(true)) => Self::CommitReject,
        })
    }

    /// The code on the wire.
    #[must_use]
    pub const fn wire(self) -> &'static str {
        match self {
            Self::ApplicationAccept => "AA",
            Self::ApplicationError => "AE",
            Self::ApplicationReject => "AR",
            Self::CommitAccept => "CA",
            Self::CommitError => "CE",
            Self::CommitReject => "CR",
        }
    }

    /// The code with this name.
    #[must_use]
    pub fn parse(wire: &str) -> Option<Self> {
        [
            Self::ApplicationAccept,
            Self::ApplicationError,
            Self::ApplicationReject,
            Self::CommitAccept,
            Self::CommitError,
            Self::CommitReject,
        ]
        .into_iter()
        .find(|code| code.wire() == wire)
    }

    /// Whether the message was taken.
    #[must_use]
    pub const fn is_accept(self) -> bool {
        matches!(self, Self::ApplicationAccept | Self::CommitAccept)
    }
}

/// Writes an acknowledgement: MSH, MSA and an ERR for each finding, errors first, 20 at most.
///
/// `header` is what could be read of the message's own; `control_id` and `time` (MSH-7, DTM) are the answer's.
#[must_use]
pub fn write(
    header: Option<&Header>,
    code: Code,
    problems: &[Problem],
    control_id: &str,
    time: &str,
) -> String {
    let blank = Header::default();
    let header = header.unwrap_or(&blank);
    let event = header.event.as_deref().unwrap_or_default();
    let processing = non_empty(&header.processing_id, "P");
    let version = non_empty(&header.version, "2.5.1");
    let mut answer = format!(
        "MSH|^~\\&|{}|{}|{}|{}|{time}||ACK{}|{}|{}|{}\rMSA|{}|{}",
        joined(&header.receiving_application),
        joined(&header.receiving_facility),
        joined(&header.sending_application),
        joined(&header.sending_facility),
        if event.is_empty() {
            String::new()
        } else {
            format!("^{}^ACK", escape(event))
        },
        escape(control_id),
        escape(processing),
        escape(version),
        code.wire(),
        escape(&header.control_id),
    );
    let mut ordered: Vec<&Problem> = problems.iter().collect();
    ordered.sort_by_key(|problem| std::cmp::Reverse(problem.weight));
    for problem in ordered.into_iter().take(ERRORS_MAX) {
        answer.push_str(&error(problem));
    }
    answer.push('\r');
    answer
}

/// One ERR segment, in the form of version 2.5 and later.
fn error(problem: &Problem) -> String {
    let place = problem.location.as_ref().map_or_else(String::new, |at| {
        let field = at
            .field
            .map_or_else(String::new, |field| format!("^{field}"));
        format!("{}^{}{field}", escape(&at.segment), at.sequence)
    });
    format!(
        "\rERR||{place}|{}^{}^HL70357|{}||||{}",
        problem.code.code(),
        problem.code.words(),
        problem.weight.code(),
        escape(&problem.text)
    )
}

fn non_empty<'t>(text: &'t str, otherwise: &'t str) -> &'t str {
    if text.is_empty() { otherwise } else { text }
}

fn escape(text: &str) -> String {
    Delimiters::default().escape(text)
}

/// An HD field as it came.
fn joined(value: &Value) -> String {
    let parts: Vec<String> = (1..=value.len().min(3))
        .map(|n| escape(value.text(n).unwrap_or_default()))
        .collect();
    parts.join("^").trim_end_matches('^').to_owned()
}

/// What a sender reads is not longer than a page.
const ERRORS_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hl7v2::{ErrorCode, Location, Message};

    fn header(text: &str) -> Header {
        Header::read(&Message::parse(text).unwrap()).unwrap()
    }

    /// NFR-INTEROP1: the answer goes back to where the message came from, names its control id and what was wrong.
    #[test]
    fn an_answer_names_message_and_place() {
        let header =
            header("MSH|^~\\&|LAB|Hos\\T\\pital^1.2^ISO|EHR|US|2024||ORU^R01^ORU_R01|id-1|P|2.5.1");
        let problem = Problem::error(ErrorCode::RequiredFieldMissing, "no identifier: a|b")
            .at(Location::field("PID", 3));
        let answer = write(
            Some(&header),
            Code::ApplicationError,
            &[problem],
            "77",
            "20260101",
        );
        assert_eq!(
            answer,
            "MSH|^~\\&|EHR|US|LAB|Hos\\T\\pital^1.2^ISO|20260101||ACK^R01^ACK|77|P|2.5.1\r\
             MSA|AE|id-1\r\
             ERR||PID^1^3|101^Required field missing^HL70357|E||||no identifier: a\\F\\b\r"
        );
        let read = Message::parse(&answer).unwrap();
        assert_eq!(read.segment("MSA").unwrap().text(2), Some("id-1"));
        let nothing = write(None, Code::ApplicationReject, &[], "78", "2026");
        assert!(Message::parse(&nothing).is_ok(), "{nothing}");
    }

    #[test]
    fn the_mode_is_the_senders() {
        let mode = |fields: &str, refused| {
            header(&format!("MSH|^~\\&|||||||ADT^A01|1|P|2.5|||{fields}")).ack_mode(refused)
        };
        assert_eq!(mode("", false), AckMode::Original);
        assert_eq!(mode("AL|NE", false), AckMode::Commit);
        assert_eq!(mode("ER|NE", false), AckMode::Silent);
        assert_eq!(mode("ER|NE", true), AckMode::Commit);
        assert_eq!(mode("NE|AL", false), AckMode::Application);
        assert_eq!(mode("NE|NE", true), AckMode::Silent);
        let refusal = [Problem::error(ErrorCode::UnsupportedVersion, "x")];
        assert_eq!(Code::of(AckMode::Commit, &[]), Some(Code::CommitAccept));
        assert_eq!(
            Code::of(AckMode::Original, &refusal),
            Some(Code::ApplicationReject)
        );
        assert_eq!(Code::of(AckMode::Silent, &refusal), None);
    }
}
