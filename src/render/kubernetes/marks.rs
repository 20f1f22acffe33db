//! How what a template writes stays data.
//!
//! Each `{{ }}` leaves a mark, a word that is plain YAML anywhere; the document is parsed with the marks in it, and only
//! then do they become what they stand for. So no value, whoever wrote it, can change what a document is made of, be it
//! in quotes, in a block of text, out of a filter or in a loop. The marks bear a random word: nobody can write one.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};
use uuid::Uuid;

/// The values that the marks of one rendering stand for. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Marks {
    word: Arc<str>,
    values: Arc<Mutex<Vec<Value>>>,
}

/// Why a value cannot be put where its mark is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Misplaced {
    /// Two keys of one mapping have become the same.
    Key(String),
    /// A filter has changed a mark, as in `{{ some_macro() | upper }}`.
    Changed,
    /// It all becomes too much.
    TooLarge,
}

impl Marks {
    pub(super) fn new() -> Self {
        Self { word: format!("g{}v", Uuid::new_v4().simple()).into(), values: Arc::default() }
    }

    /// Keeps a value; returns its mark.
    pub(super) fn mark(&self, value: Value) -> String {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        values.push(value);
        format!("{}{}z", self.word, values.len() - 1)
    }

    /// Puts the values where their marks are, at most `room` bytes of them.
    pub(super) fn fill(&self, value: Value, room: &mut usize) -> Result<Value, Misplaced> {
        match value {
            Value::String(text) => self.fill_text(text, room),
            Value::Array(items) => items
                .into_iter()
                .map(|item| self.fill(item, room))
                .collect::<Result<_, _>>()
                .map(Value::Array),
            Value::Object(map) => {
                let mut filled = Map::new();
                for (key, value) in map {
                    let key = text_of(self.fill_text(key, room)?);
                    let value = self.fill(value, room)?;
                    if filled.insert(key.clone(), value).is_some() {
                        return Err(Misplaced::Key(key));
                    }
                }
                Ok(Value::Object(filled))
            }
            other => Ok(other),
        }
    }

    /// A text that is a mark and nothing else becomes the value itself; marks within a text become text.
    fn fill_text(&self, text: String, room: &mut usize) -> Result<Value, Misplaced> {
        if !text.contains(&*self.word) {
            let word = self.word.to_uppercase();
            return if text.contains(&word) { Err(Misplaced::Changed) } else { Ok(Value::String(text)) };
        }
        let mut filled = String::new();
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once(&*self.word) {
            let (number, after) = after.split_once('z').ok_or(Misplaced::Changed)?;
            let number: usize = number.parse().map_err(|_| Misplaced::Changed)?;
            let kept = self.values.lock().unwrap_or_else(PoisonError::into_inner).get(number).cloned();
            // What a macro or a block wrote holds marks of its own, each older than its own mark.
            let value = self.fill(kept.ok_or(Misplaced::Changed)?, room)?;
            *room = room.checked_sub(length(&value)).ok_or(Misplaced::TooLarge)?;
            if filled.is_empty() && before.is_empty() && after.is_empty() {
                return Ok(value);
            }
            filled.push_str(before);
            filled.push_str(&text_of(value));
            rest = after;
        }
        filled.push_str(rest);
        Ok(Value::String(filled))
    }
}

fn text_of(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// About how many bytes a value takes.
fn length(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(|item| 1 + length(item)).sum(),
        Value::Object(map) => map.iter().map(|(key, value)| key.len() + length(value)).sum(),
        _ => 1,
    }
}
