//! The paths within an archive: text written by a stranger → a path that cannot lead anywhere else. Pure.

use std::path::{Component, Path};

use super::limits::Limits;
use super::refusal::Refusal;
use crate::preview::Quoted;

/// A checked path within an archive: plain names joined by `/`, none of them empty, `.` or `..`. Empty for the top.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct EntryPath(String);

impl EntryPath {
    /// Checks the name of an entry.
    pub(super) fn of_entry(raw: &[u8], limits: &Limits) -> Result<Self, Refusal> {
        let shown = || Quoted::new(&String::from_utf8_lossy(raw));
        let text = std::str::from_utf8(raw).map_err(|_| Refusal::Path(shown(), "is not UTF-8"))?;
        let path = Self::parse(text).map_err(|what| Refusal::Path(shown(), what))?;
        if path.0.len() > limits.path_bytes || path.0.split('/').any(|part| part.len() > 255) {
            return Err(Refusal::PathBytes(shown(), limits.path_bytes));
        }
        if path.0.split('/').count() > limits.path_depth {
            return Err(Refusal::PathDepth(shown(), limits.path_depth));
        }
        Ok(path)
    }

    /// Checks the folder to serve: `dist`, `dist/`, `.` and the empty path are fine.
    pub(super) fn of_root(root: &Path) -> Result<Self, Refusal> {
        let outside = || Refusal::RootOutside(Quoted::new(&root.to_string_lossy()));
        Self::parse(root.to_str().ok_or_else(outside)?).map_err(|_| outside())
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        if text.contains('\0') {
            return Err("has a NUL byte");
        }
        if text.contains('\\') {
            return Err("has a backslash");
        }
        let mut path = String::with_capacity(text.len());
        for part in Path::new(text).components() {
            match part {
                Component::Normal(name) => {
                    if !path.is_empty() {
                        path.push('/');
                    }
                    path.push_str(name.to_str().ok_or("is not UTF-8")?);
                }
                Component::CurDir => {}
                Component::ParentDir => return Err("has a `..`"),
                Component::RootDir | Component::Prefix(_) => return Err("is absolute"),
            }
        }
        let drive = matches!(path.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic());
        if drive { Err("has a drive letter") } else { Ok(Self(path)) }
    }

    /// The path as text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The first name.
    pub(super) fn top(&self) -> &str {
        self.names().next().unwrap_or_default()
    }

    /// Every name in it, the outermost first.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// This path as seen from `root`; empty for `root` itself, `None` when it lies elsewhere.
    pub(super) fn below(&self, root: &Self) -> Option<Self> {
        if root.0.is_empty() || self == root {
            return Some(Self(self.0[root.0.len()..].to_owned()));
        }
        self.0.strip_prefix(root.as_str())?.strip_prefix('/').map(|rest| Self(rest.to_owned()))
    }

    /// Every folder above it, the outermost first.
    pub(super) fn folders(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').map(|(end, _)| &self.0[..end])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_plain_relative_paths_are_taken() {
        let limits = Limits::default();
        for (raw, path) in [
            ("index.html", Some("index.html")),
            ("./a//b/", Some("a/b")),
            (".well-known/x", Some(".well-known/x")),
            ("a..b/...", Some("a..b/...")),
            ("/etc/passwd", None),
            ("../up", None),
            ("a/../../up", None),
            ("a/..", None),
            ("a\\b", None),
            ("c:/windows", None),
            ("a\0b", None),
        ] {
            let found = EntryPath::of_entry(raw.as_bytes(), &limits);
            assert_eq!(found.as_ref().ok().map(EntryPath::as_str), path, "{raw:?}: {found:?}");
        }
        assert!(EntryPath::of_entry(b"caf\xe9.html", &limits).is_err());
        assert!(EntryPath::of_entry("a/".repeat(40).as_bytes(), &limits).is_err());
        assert!(EntryPath::of_entry("a".repeat(256).as_bytes(), &limits).is_err());
    }

    #[test]
    fn a_path_is_seen_from_the_folder_that_is_served() {
        let path = |text: &str| EntryPath::parse(text).unwrap();
        for (entry, root, seen) in [
            ("dist/a/b", "dist", Some("a/b")),
            ("dist", "dist/", Some("")),
            ("distant/a", "dist", None),
            ("a/b", ".", Some("a/b")),
            ("a/b", "", Some("a/b")),
            ("a/b/c", "a/b", Some("c")),
        ] {
            assert_eq!(
                path(entry).below(&path(root)).as_ref().map(EntryPath::as_str),
                seen,
                "{entry} in {root}"
            );
        }
        assert_eq!(path("a/b/c").folders().collect::<Vec<_>>(), ["a", "a/b"]);
    }

    proptest! {
        #[test]
        fn a_checked_path_stays_below_the_folder_it_is_put_in(raw in "[a./\\\\:é\\x00~-]{0,40}") {
            if let Ok(path) = EntryPath::of_entry(raw.as_bytes(), &Limits::default()) {
                let all_plain =
                    Path::new(path.as_str()).components().all(|part| matches!(part, Component::Normal(_)));
                prop_assert!(all_plain, "{raw:?} → {path:?}");
            }
        }
    }
}
