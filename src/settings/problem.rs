//! What is wrong with the settings, for people.

use std::fmt;

/// One thing that is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The setting, as it was given.
    pub name: String,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

/// Everything that is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(f, "the settings have {count} problem{}", if count == 1 { "" } else { "s" })?;
        for Problem { name, problem, remedy } in &self.0 {
            write!(f, "\n  {name}: {problem}\n    hint: {remedy}")?;
        }
        Ok(())
    }
}
