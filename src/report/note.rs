//! The one comment.

use sha2::{Digest, Sha256};

use super::{Error, Reporter};
use crate::gitlab::Note;
use crate::preview::{MrKey, Preview, State};
use crate::render::{NoteFacts, marker_matches, note};

/// What is asked of GitLab before a comment is written or left as it is.
#[derive(Debug, Clone, Copy)]
pub struct NoteCheck {
    /// Whether a comment whose text is right is still there: a person may have deleted it.
    pub exists: bool,
    /// Whether one of ours is there already, when none is known.
    pub search: bool,
}

impl NoteCheck {
    /// All of it.
    pub const ALL: Self = Self { exists: true, search: true };
}

impl Reporter {
    /// Brings the comment up to date, at `now`. Returns whether anything was written.
    pub async fn comment(&self, preview: &mut Preview, now: i64, check: NoteCheck) -> Result<bool, Error> {
        // A branch without a merge request has nowhere to comment.
        let Some(key) = preview.key.merge_request() else { return Ok(false) };
        let text = note(NoteFacts { preview, instance: &self.instance })?;
        let digest = hex::encode(Sha256::digest(&text));
        if let Some(id) = preview.note_id {
            let there = if preview.note_digest.as_ref() == Some(&digest) {
                if !check.exists {
                    return Ok(false);
                }
                if self.forge.note_exists(key, id).await? {
                    preview.note_seen_at = now;
                    return Ok(false);
                }
                false
            } else {
                match self.forge.update_note(key, id, &text).await {
                    // Written by the bot of a token that was replaced: from here on there is one of our own.
                    Err(error) if error.status() == Some(403) => false,
                    done => done?,
                }
            };
            if there {
                preview.note_digest = Some(digest);
                preview.note_seen_at = now;
                return Ok(true);
            }
            preview.note_id = None;
            preview.note_digest = None;
        }

        let mut ours = if check.search { self.own_notes(key).await? } else { Vec::new() }.into_iter();
        let kept = ours.next();
        for extra in ours {
            self.forge.delete_note(key, extra.id).await?;
        }
        let (id, written) = match kept {
            Some(note) if note.body.trim_end() == text => (note.id, false),
            Some(note) => {
                self.forge.update_note(key, note.id, &text).await?;
                (note.id, true)
            }
            None if note_is_due(preview.state) => (self.forge.create_note(key, &text).await?, true),
            None => return Ok(false),
        };
        preview.note_id = Some(id);
        preview.note_digest = Some(digest);
        preview.note_seen_at = now;
        Ok(written)
    }

    /// Our comments, the oldest first.
    async fn own_notes(&self, key: MrKey) -> Result<Vec<Note>, Error> {
        let me = self.forge.me(key.project_id).await?;
        let mut notes = self.forge.notes(key).await?;
        notes.retain(|note| note.author_id == Some(me) && marker_matches(&note.body, &self.instance, key));
        notes.sort_by_key(|note| note.id);
        Ok(notes)
    }
}

/// Whether a state is worth a first comment.
pub const fn note_is_due(state: State) -> bool {
    matches!(state, State::Waiting | State::Deploying | State::Ready | State::Asleep | State::Failed)
}
