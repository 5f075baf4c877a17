//! How the portal's sources say a message.

/// A message in the language of the request: `&'static str`, or a `String` where it has arguments, each by its name or
/// as `name = value`.
macro_rules! text {
    ($words:literal) => { $crate::text::of($words) };
    ($words:literal, $($name:ident $(= $value:expr)?),+ $(,)?) => {
        $crate::text::filled(
            $crate::text::of($words),
            &[$((stringify!($name), &$crate::text::argument!($name $(= $value)?))),+],
        )
    };
}

/// As [`text!`], with arguments that may be markup; gives markup.
macro_rules! rich {
    ($words:literal, $($name:ident $(= $value:expr)?),+ $(,)?) => {
        $crate::text::marked_up(
            $crate::text::of($words),
            &[$((stringify!($name), &$crate::text::argument!($name $(= $value)?))),+],
        )
    };
}

/// As [`text!`], in the form that fits a number, which is the argument `count`: `plural!(n, "1 day", "{count} days")`.
macro_rules! plural {
    ($count:expr, $one:literal, $other:literal $(, $name:ident $(= $value:expr)?)* $(,)?) => {{
        let count = $count;
        $crate::text::filled(
            $crate::text::plural(count, $one, $other),
            &[("count", &count) $(, (stringify!($name), &$crate::text::argument!($name $(= $value)?)))*],
        )
    }};
}

/// Marks words of a table as a message. Who shows them asks [`of`] for them.
macro_rules! message {
    ($words:literal) => {
        $words
    };
}

/// The value of an argument.
macro_rules! argument {
    ($name:ident) => {
        $name
    };
    ($name:ident = $value:expr) => {
        $value
    };
}

pub(crate) use argument;
