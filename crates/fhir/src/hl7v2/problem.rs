//! What is wrong with a message, where, and how badly; becomes the ERR segment of an acknowledgement.

use std::fmt;

/// One finding about a message. Names segment and field, never content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// HL7 table 0357.
    pub code: ErrorCode,
    /// HL7 table 0516.
    pub weight: Weight,
    /// Where.
    pub location: Option<Location>,
    /// What, in one sentence without content.
    pub text: String,
}

/// How bad a finding is (HL7 table 0516).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Worth knowing: it stays in the stored original only.
    Information,
    /// Something was odd and was taken in another form.
    Warning,
    /// The message is refused.
    Error,
}

/// A place in a message, counted from 1 as in ERR-2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Three letters or digits.
    pub segment: String,
    /// Which of the segments of that name.
    pub sequence: usize,
    /// Which field.
    pub field: Option<usize>,
}

/// Error condition codes that are used (HL7 table 0357).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// The segments or the delimiters are not as they have to be.
    SegmentSequence,
    /// A required field is missing.
    RequiredFieldMissing,
    /// A value is not of its type.
    DataType,
    /// A code is not of its table.
    TableValueNotFound,
    /// The message type is not taken here.
    UnsupportedMessageType,
    /// The trigger event is not taken here.
    UnsupportedEvent,
    /// The processing id is not taken here.
    UnsupportedProcessingId,
    /// The version is not taken here.
    UnsupportedVersion,
    /// The sender, or a key in the message, is not known.
    UnknownKey,
    /// The application failed, or is too full; sending again later may help.
    Internal,
}

impl Problem {
    /// A reason to refuse the message.
    pub fn error(code: ErrorCode, text: impl Into<String>) -> Self {
        Self::new(Weight::Error, code, text)
    }

    /// Something odd that was taken in another form.
    pub fn warning(code: ErrorCode, text: impl Into<String>) -> Self {
        Self::new(Weight::Warning, code, text)
    }

    /// Something that stays in the original only.
    pub fn information(code: ErrorCode, text: impl Into<String>) -> Self {
        Self::new(Weight::Information, code, text)
    }

    fn new(weight: Weight, code: ErrorCode, text: impl Into<String>) -> Self {
        Self {
            code,
            weight,
            location: None,
            text: text.into(),
        }
    }

    /// The same with its place.
    #[must_use]
    pub fn at(mut self, location: Location) -> Self {
        self.location = Some(location);
        self
    }

    /// Whether the message is refused because of it.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.weight == Weight::Error
    }

    /// Whether the message can't be taken whoever sends it, so that the answer is a rejection (AR) and not an error
    /// (AE): HL7 v2.9, 2.9.2.2.
    #[must_use]
    pub const fn is_rejection(&self) -> bool {
        matches!(
            self.code,
            ErrorCode::UnsupportedMessageType
                | ErrorCode::UnsupportedEvent
                | ErrorCode::UnsupportedProcessingId
                | ErrorCode::UnsupportedVersion
                | ErrorCode::UnknownKey
                | ErrorCode::Internal
        )
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = &self.location {
            write!(f, "{location}: ")?;
        }
        f.write_str(&self.text)
    }
}

impl Location {
    /// A field of the first segment of a name.
    pub fn field(segment: impl Into<String>, field: usize) -> Self {
        Self {
            segment: segment.into(),
            sequence: 1,
            field: Some(field),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.segment)?;
        if self.sequence > 1 {
            write!(f, "[{}]", self.sequence)?;
        }
        match self.field {
            Some(field) => write!(f, "-{field}"),
            None => Ok(()),
        }
    }
}

impl Weight {
    /// The code on the wire.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Information => "I",
            Self::Warning => "W",
            Self::Error => "E",
        }
    }
}

impl ErrorCode {
    /// The code on the wire.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::SegmentSequence => "100",
            Self::RequiredFieldMissing => "101",
            Self::DataType => "102",
            Self::TableValueNotFound => "103",
            Self::UnsupportedMessageType => "200",
            Self::UnsupportedEvent => "201",
            Self::UnsupportedProcessingId => "202",
            Self::UnsupportedVersion => "203",
            Self::UnknownKey => "204",
            Self::Internal => "207",
        }
    }

    /// The standard's words for it.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::SegmentSequence => "Segment sequence error",
            Self::RequiredFieldMissing => "Required field missing",
            Self::DataType => "Data type error",
            Self::TableValueNotFound => "Table value not found",
            Self::UnsupportedMessageType => "Unsupported message type",
            Self::UnsupportedEvent => "Unsupported event code",
            Self::UnsupportedProcessingId => "Unsupported processing id",
            Self::UnsupportedVersion => "Unsupported version id",
            Self::UnknownKey => "Unknown key identifier",
            Self::Internal => "Application internal error",
        }
    }
}
