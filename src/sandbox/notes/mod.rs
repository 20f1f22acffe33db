//! Notes on merge requests. GitLab executes and removes its own quick actions; a note that held
//! nothing else is not stored, fires no hook and answers 202 with `commands_changes`.

mod quick_actions;
mod routes;

pub(super) use routes::routes;

use super::{
    delivery::Event,
    payloads,
    refusal::Refusal,
    state::{Noun, State},
    time,
};
use jiff::Timestamp;
use serde_json::{Value, json};

/// GitLab refuses longer notes.
const MAX_CHARS: usize = 1_000_000;

/// One note.
#[derive(Debug, Clone)]
pub(super) struct Note {
    pub(super) id: u64,
    pub(super) project: u64,
    pub(super) merge_request: u64,
    pub(super) author: u64,
    pub(super) body: String,
    pub(super) internal: bool,
    pub(super) system: bool,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
}

/// What became of a note that was sent.
pub(super) struct Written {
    /// None when it held quick actions only.
    pub(super) note: Option<u64>,
    pub(super) commands: Vec<(String, Value)>,
}

impl State {
    pub(super) fn notes_of(&self, project: u64, merge_request: u64) -> impl Iterator<Item = &Note> {
        self.notes.values().filter(move |note| note.project == project && note.merge_request == merge_request)
    }

    pub(super) fn note(&self, project: u64, merge_request: u64, id: u64) -> Result<&Note, Refusal> {
        let belongs = |note: &&Note| note.project == project && note.merge_request == merge_request;
        self.notes.get(&id).filter(belongs).ok_or_else(|| Refusal::not_found("Note"))
    }

    /// Stores a note, after its quick actions were executed and removed.
    pub(super) fn write_note(
        &mut self,
        project: u64,
        merge_request: u64,
        author: u64,
        text: &str,
        internal: bool,
    ) -> Result<Written, Refusal> {
        check(text)?;
        self.merge_request(project, merge_request)?;
        let extracted = quick_actions::extract(text);
        let commands = self.execute(project, merge_request, author, &extracted.commands)?;
        if extracted.text.trim().is_empty() {
            return Ok(Written { note: None, commands });
        }
        let now = self.now();
        let note = Note {
            id: self.next_id(Noun::Note),
            project,
            merge_request,
            author,
            body: extracted.text,
            internal,
            system: false,
            created_at: now,
            updated_at: now,
        };
        let id = note.id;
        self.notes.insert(id, note);
        self.announce_note(id, "create")?;
        Ok(Written { note: Some(id), commands })
    }

    pub(super) fn edit_note(&mut self, id: u64, text: &str) -> Result<(), Refusal> {
        check(text)?;
        let now = self.now();
        let note = self.notes.get_mut(&id).ok_or_else(|| Refusal::not_found("Note"))?;
        text.clone_into(&mut note.body);
        note.updated_at = now;
        self.announce_note(id, "update")
    }

    fn announce_note(&mut self, id: u64, action: &str) -> Result<(), Refusal> {
        let note = self.notes.get(&id).ok_or_else(|| Refusal::not_found("Note"))?;
        let event = if note.internal { Event::ConfidentialNote } else { Event::Note };
        let (project, body) = (note.project, payloads::note(self, note, action)?);
        self.fire(project, event, &body)
    }

    fn note_json(&self, note: &Note) -> Result<Value, Refusal> {
        Ok(json!({
            "id": note.id,
            "type": null,
            "body": note.body,
            "attachment": null,
            "author": self.user_basic(note.author),
            "created_at": time::iso(note.created_at),
            "updated_at": time::iso(note.updated_at),
            "system": note.system,
            "noteable_id": self.merge_request(note.project, note.merge_request)?.id,
            "noteable_type": "MergeRequest",
            "project_id": note.project,
            "commit_id": null,
            "position": null,
            "resolvable": false,
            "confidential": note.internal,
            "internal": note.internal,
            "imported": false,
            "imported_from": "none",
            "noteable_iid": note.merge_request,
            "commands_changes": {},
        }))
    }
}

fn check(text: &str) -> Result<(), Refusal> {
    if text.trim().is_empty() {
        return Err(Refusal::bad_request("400 Bad request - Note {:note=>[\"can't be blank\"]}"));
    }
    if text.chars().count() > MAX_CHARS {
        return Err(Refusal::bad_request(
            "400 Bad request - Note {:note=>[\"is too long (maximum is 1000000 characters)\"]}",
        ));
    }
    Ok(())
}
