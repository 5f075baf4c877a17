//! A statement under construction.

use rusqlite::{Connection, Row, params_from_iter, types::Value as SqlValue};

use crate::error::{Attempt as _, Result};

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
    pub(crate) fn bind_all<V: Into<SqlValue>>(
        &mut self,
        values: impl IntoIterator<Item = V>,
    ) -> String {
        let places: Vec<String> = values.into_iter().map(|value| self.bind(value)).collect();
        places.join(", ")
    }

    /// A table alias that the statement does not have yet.
    pub(crate) fn alias(&mut self, start: char) -> String {
        self.aliases += 1;
        format!("{start}{}", self.aliases)
    }

    /// Runs a finished text and reads its rows.
    pub(crate) fn rows<T>(
        &self,
        what: &'static str,
        db: &Connection,
        text: &str,
        mut read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut statement = db.prepare_cached(text).attempt(what)?;
        // A value bound for a comparison that was left out in the end may lie beyond the last place of the text.
        let places = statement.parameter_count();
        let values = params_from_iter(self.values.iter().take(places));
        let mut rows = statement.query(values).attempt(what)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next().attempt(what)? {
            found.push(read(row)?);
        }
        Ok(found)
    }

    /// As [`Self::rows`], for the first column of integers.
    pub(crate) fn numbers(
        &self,
        what: &'static str,
        db: &Connection,
        text: &str,
    ) -> Result<Vec<i64>> {
        self.rows(what, db, text, |row| row.get(0).attempt(what))
    }
}
