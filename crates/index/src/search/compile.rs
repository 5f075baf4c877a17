//! A statement under construction.

use rusqlite::types::Value as SqlValue;

/// Text and values of a statement. Values are always bound, by number, so that the text depends only on the shape
/// of a search and its prepared form is used again.
#[derive(Default)]
pub(crate) struct Sql {
    values: Vec<SqlValue>,
    aliases: usize,
}

impl Sql {
    /// Binds a value and gives its place in the text.
    pub(crate) fn bind(&mut self, value: impl Into<SqlValue>) -> String {
        self.values.push(value.into());
        format!("?{}", self.values.len())
    }

    /// Binds several values as a list for `IN (…)`.
    pub(crate) fn bind_all<V: Into<SqlValue>>(&mut self, values: impl IntoIterator<Item = V>) -> String {
        let places: Vec<String> = values.into_iter().map(|value| self.bind(value)).collect();
        places.join(", ")
    }

    /// A table alias that the statement does not have yet.
    pub(crate) fn alias(&mut self, start: char) -> String {
        self.aliases += 1;
        format!("{start}{}", self.aliases)
    }

    /// The values in order of their numbers.
    pub(crate) fn values(&self) -> impl Iterator<Item = &SqlValue> {
        self.values.iter()
    }
}
