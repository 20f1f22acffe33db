//! How what a template writes stays data.
//!
//! Each `{{ }}` leaves a mark, a word that is plain YAML anywhere; the document is parsed with the marks in it, and only
//! then do they become what they stand for. So no value, whoever wrote it, can change what a document is made of, be it
//! in quotes, in a block of text, out of a filter or in a loop. The marks bear a random word: nobody can write one.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

/// How many bytes all values of one rendering may have.
pub(super) const LARGEST_VALUES: usize = 4 << 20;

/// How often what a macro or a block wrote may be written by another.
const DEEPEST: usize = 50;

/// The values that the marks of one rendering stand for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Marks {
    word: String,
    values: Vec<Value>,
    /// How many bytes of values may still come.
    room: usize,
}

/// Why a value cannot be put where its mark is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Misplaced {
    /// Two keys of one mapping have become the same.
    Key(String),
    /// A filter has changed a mark, as in `{{ some_macro() | upper }}`.
    Changed,
    /// Macros and blocks wrote what others wrote, too many times over.
    TooDeep,
    /// It all becomes too much.
    TooLarge,
}

impl Marks {
    pub(super) fn new() -> Self {
        let word = format!("g{}v", Uuid::new_v4().simple());
        Self { word, values: Vec::new(), room: LARGEST_VALUES }
    }

    /// Keeps a value; returns its mark, or nothing when it all becomes too much.
    pub(super) fn mark(&mut self, value: Value) -> Option<String> {
        self.room = self.room.checked_sub(length(&value))?;
        self.values.push(value);
        Some(format!("{}{}z", self.word, self.values.len() - 1))
    }

    /// Puts the values where their marks are, at most `room` bytes of them.
    pub(super) fn fill(&self, value: Value, room: &mut usize) -> Result<Value, Misplaced> {
        self.fill_by(value, self.values.len(), DEEPEST, room)
    }

    /// The same with the marks below `end`, and so many of them in each other.
    fn fill_by(&self, value: Value, end: usize, depth: usize, room: &mut usize) -> Result<Value, Misplaced> {
        match value {
            Value::String(text) => self.fill_text(text, end, depth, room),
            Value::Array(items) => items
                .into_iter()
                .map(|item| self.fill_by(item, end, depth, room))
                .collect::<Result<_, _>>()
                .map(Value::Array),
            Value::Object(map) => {
                let mut filled = Map::new();
                for (key, value) in map {
                    let key = text_of(self.fill_text(key, end, depth, room)?);
                    let value = self.fill_by(value, end, depth, room)?;
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
    fn fill_text(
        &self,
        text: String,
        end: usize,
        depth: usize,
        room: &mut usize,
    ) -> Result<Value, Misplaced> {
        if !text.contains(&self.word) {
            let word = self.word.to_uppercase();
            return if text.contains(&word) { Err(Misplaced::Changed) } else { Ok(Value::String(text)) };
        }
        let depth = depth.checked_sub(1).ok_or(Misplaced::TooDeep)?;
        let mut filled = String::new();
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once(&self.word) {
            let (number, after) = after.split_once('z').ok_or(Misplaced::Changed)?;
            let number: usize = number.parse().map_err(|_| Misplaced::Changed)?;
            // What a macro or a block wrote holds marks of its own, each older than its own mark: so they have an end.
            let kept = self.values[..end].get(number).cloned();
            let value = self.fill_by(kept.ok_or(Misplaced::Changed)?, number, depth, room)?;
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

/// About how many bytes a value takes; never none, for however little there is, it may be there often.
fn length(value: &Value) -> usize {
    match value {
        Value::String(text) => 1 + text.len(),
        Value::Array(items) => 1 + items.iter().map(length).sum::<usize>(),
        Value::Object(map) => 1 + map.iter().map(|(key, value)| key.len() + length(value)).sum::<usize>(),
        _ => 1,
    }
}
