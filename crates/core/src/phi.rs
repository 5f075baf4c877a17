//! Values that do not print: clinical content never reaches a log by accident.

use std::fmt;

/// A value that may identify or describe a patient. `Debug` hides it; there is no `Display`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Phi<T>(T);

impl<T> Phi<T> {
    /// Marks a value as protected.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value, for the caller who may see it.
    pub const fn expose(&self) -> &T {
        &self.0
    }

    /// The value itself, for the caller who may see it.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> fmt::Debug for Phi<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Phi(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides() {
        assert_eq!(format!("{:?}", Phi::new("Ada Lovelace")), "Phi(…)");
    }
}
