//! `CI_ENVIRONMENT_SLUG`: at most 24 characters of `[a-z0-9-]`, starting with a letter, with a hash
//! where the name had to be changed.

use sha2::{Digest, Sha256};

const MAX: usize = 24;
const KEPT_BEFORE_HASH: usize = 17;
const HASH: usize = 6;

pub(super) fn slug(name: &str) -> String {
    let plain =
        |letter: char| if letter.is_ascii_lowercase() || letter.is_ascii_digit() { letter } else { '-' };
    let mut slug: String = name.to_lowercase().chars().map(plain).collect();
    if !slug.starts_with(|first: char| first.is_ascii_lowercase()) {
        slug.insert_str(0, "env-");
    }
    while slug.contains("--") {
        slug = slug.replace("--", "-");
    }
    if slug.len() > MAX || slug != name {
        slug.truncate(KEPT_BEFORE_HASH);
        if !slug.ends_with('-') {
            slug.push('-');
        }
        return slug + &suffix(name);
    }
    slug.strip_suffix('-').map(str::to_owned).unwrap_or(slug)
}

/// The last digits of the name's SHA-256 in base 36.
fn suffix(name: &str) -> String {
    let mut number = Sha256::digest(name).to_vec();
    let mut digits = Vec::new();
    for _ in 0..HASH {
        let mut rest = 0_u32;
        for byte in &mut number {
            let value = rest * 256 + u32::from(*byte);
            *byte = u8::try_from(value / 36).unwrap_or(u8::MAX);
            rest = value % 36;
        }
        digits.push(char::from_digit(rest, 36).unwrap_or('0'));
    }
    digits.into_iter().rev().collect()
}

#[cfg(test)]
mod tests {
    #[derive(serde::Deserialize)]
    struct Vector {
        input: Option<String>,
        environment_slug: Option<String>,
        /// Set where GitLab's own tests stub the hash.
        sha256_hex: Option<String>,
    }

    #[test]
    fn slugs_are_those_of_gitlab() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/gitlab/slug_vectors.json");
        let vectors: Vec<Vector> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let real = vectors.iter().filter(|vector| vector.sha256_hex.is_none());
        let pairs =
            real.filter_map(|vector| Some((vector.input.as_ref()?, vector.environment_slug.as_ref()?)));
        for (input, expected) in pairs {
            assert_eq!(super::slug(input), *expected, "{input}");
        }
    }
}
