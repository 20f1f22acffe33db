//! JSON objects out of parts: GitLab's longer forms are the short ones and more.

use serde_json::Value;

/// `base` with the members of `more` added or replaced; null stays null.
pub(super) fn with(mut base: Value, more: Value) -> Value {
    if let (Value::Object(base), Value::Object(more)) = (&mut base, more) {
        base.extend(more);
    }
    base
}
