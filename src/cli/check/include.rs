//! Whether a `.gitlab-ci.yml` gives the include of greenroom what it takes. GitLab itself says so only in a pipeline.
//!
//! Only entries of `include` that lead to greenroom's own file are looked at, whether as a component, from a project, a local
//! copy or a remote one; what is asked of them is what that file of this version says in `spec:inputs`.

use std::fmt;

use regex::Regex;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use serde_saphyr::options::DuplicateKeyPolicy;
use url::Url;

use super::Finding;
use crate::settings::NO_SERVER;

/// The file that is included, of this version.
const INCLUDED: &str = include_str!("../../../templates/greenroom.yml");

/// By what its copies are known: the name of the component, and the ends of its paths.
const COMPONENT: &str = "greenroom";
const FILES: [&str; 2] = ["greenroom.gitlab-ci.yml", "templates/greenroom.yml"];

/// YAML with the place of everything in it.
type Node = Spanned<Tree>;

#[derive(Debug)]
enum Tree {
    Text(String),
    Number(String),
    Bool(bool),
    Null,
    List(Vec<Node>),
    Map(Vec<(Spanned<String>, Node)>),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Tree;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("YAML")
            }

            fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
                Ok(Tree::Text(text.to_owned()))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
                Ok(Tree::Bool(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
                Ok(Tree::Number(value.to_string()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
                Ok(Tree::Number(value.to_string()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
                Ok(Tree::Number(value.to_string()))
            }

            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }

            fn visit_none<E>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
                deserializer.deserialize_any(self)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Tree::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
                let mut map = Vec::new();
                while let Some(entry) = entries.next_entry()? {
                    map.push(entry);
                }
                Ok(Tree::Map(map))
            }

            fn visit_bytes<E: serde::de::Error>(self, _: &[u8]) -> Result<Tree, E> {
                Err(E::custom("bytes are no part of a pipeline"))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

impl Tree {
    fn entries(&self) -> &[(Spanned<String>, Node)] {
        if let Self::Map(entries) = self { entries } else { &[] }
    }

    fn get(&self, name: &str) -> Option<&Node> {
        self.entries().iter().find(|(key, _)| key.value == name).map(|(_, node)| node)
    }

    fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// A list, or one thing as a list of one.
    fn each(node: &Node) -> &[Node] {
        if let Self::List(items) = &node.value { items } else { std::slice::from_ref(node) }
    }
}

fn parse(text: &str) -> Result<Vec<Node>, serde_saphyr::Error> {
    // GitLab takes the last of two keys that are the same.
    let options = serde_saphyr::options! { duplicate_keys: DuplicateKeyPolicy::LastWins };
    serde_saphyr::from_multiple_with_options(text, options)
}

/// What is wrong with the includes of greenroom in the `.gitlab-ci.yml` called `name`; nothing when there are none.
pub(super) fn findings(name: &str, text: &str) -> Option<Vec<Finding>> {
    let documents = match parse(text) {
        Ok(documents) => documents,
        // Whether all of a pipeline is right, GitLab says; of what never names us there is nothing to say.
        Err(_) if !text.contains(COMPONENT) => return None,
        Err(error) => {
            let place =
                error.location().map_or_else(|| name.to_owned(), |at| format!("{name}:{}", at.line()));
            let problem = String::from("cannot be read as YAML, so its includes are not checked");
            return Some(vec![Finding {
                place,
                problem,
                remedy: String::from("mend it there or just before"),
            }]);
        }
    };
    let included = documents.iter().filter_map(|document| document.value.get("include"));
    let ours: Vec<&Node> = included.flat_map(Tree::each).filter(|entry| is_ours(&entry.value)).collect();
    if ours.is_empty() {
        return None;
    }
    let spec = Spec::read();
    Some(ours.into_iter().flat_map(|entry| spec.check(name, entry)).collect())
}

/// Whether an entry of `include` leads to greenroom's file.
fn is_ours(entry: &Tree) -> bool {
    let leads = |path: &str| {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        FILES.iter().any(|file| {
            path.strip_suffix(file).is_some_and(|before| before.is_empty() || before.ends_with('/'))
        })
    };
    if let Some(path) = entry.text() {
        return leads(path);
    }
    let component = entry.get("component").and_then(|node| node.value.text());
    let component = component.and_then(|text| text.split('@').next()?.rsplit('/').next());
    let named = ["file", "local", "remote"].iter().filter_map(|kind| entry.get(kind));
    let mut paths = named.flat_map(Tree::each).filter_map(|node| node.value.text());
    component == Some(COMPONENT) || paths.any(leads)
}

/// An input, as the included file declares it. All of them are texts.
struct Input {
    name: String,
    required: bool,
    options: Vec<String>,
    pattern: Option<Regex>,
}

struct Spec(Vec<Input>);

impl Spec {
    fn read() -> Self {
        let documents = parse(INCLUDED).unwrap_or_default();
        let declared = documents.first().and_then(|header| header.value.get("spec")?.value.get("inputs"));
        let input = |(name, node): &(Spanned<String>, Node)| Input {
            name: name.value.clone(),
            required: node.value.get("default").is_none(),
            options: node
                .value
                .get("options")
                .into_iter()
                .flat_map(Tree::each)
                .filter_map(|option| option.value.text().map(str::to_owned))
                .collect(),
            pattern: node.value.get("regex").and_then(|node| Regex::new(node.value.text()?).ok()),
        };
        Self(declared.into_iter().flat_map(|node| node.value.entries()).map(input).collect())
    }

    fn names(&self) -> String {
        self.0.iter().map(|input| format!("`{}`", input.name)).collect::<Vec<_>>().join(", ")
    }

    /// What is wrong with one entry.
    fn check(&self, file: &str, entry: &Node) -> Vec<Finding> {
        let given = entry.value.get("inputs");
        let finding = |line: u64, problem: String, remedy: String| Finding {
            place: format!("{file}:{line}"),
            problem,
            remedy,
        };
        let mut findings = Vec::new();
        for (name, node) in given.into_iter().flat_map(|node| node.value.entries()) {
            let Some(input) = self.0.iter().find(|input| input.name == name.value) else {
                let problem = format!("the include of greenroom has no input `{}`", name.value);
                let remedy = format!("use one of {}", self.names());
                findings.push(finding(name.referenced.line(), problem, remedy));
                continue;
            };
            if let Some((problem, remedy)) = input.check(&node.value) {
                let problem = format!("the input `{}` of greenroom's include {problem}", input.name);
                findings.push(finding(node.referenced.line(), problem, remedy));
            }
        }
        let has = |input: &Input| given.is_some_and(|node| node.value.get(&input.name).is_some());
        let missing = self.0.iter().filter(|input| input.required && !has(input));
        findings.extend(missing.map(|input| {
            let problem = format!("the include of greenroom lacks the input `{}`", input.name);
            finding(entry.referenced.line(), problem, format!("add `{}:` under its `inputs:`", input.name))
        }));
        let text =
            |name| given.and_then(|node| node.value.get(name)?.value.text()).filter(|it| !it.is_empty());
        let has_server = text("server").is_some_and(|server| server != NO_SERVER);
        if !has_server && text("instance").is_none() && text("mode") != Some("prepare") {
            let problem =
                String::from("the include of greenroom has neither the input `server` nor `instance`");
            let remedy = "add `server:` with the URL of your greenroom, or `instance:` for jobs that do the work themselves";
            findings.push(finding(entry.referenced.line(), problem, remedy.to_owned()));
        }
        findings
    }
}

impl Input {
    /// What is wrong with a value, and what helps.
    fn check(&self, value: &Tree) -> Option<(String, String)> {
        let Some(text) = value.text() else {
            let kind = match value {
                Tree::Number(number) => format!("is the number {number}"),
                Tree::Bool(value) => format!("is the truth value {value}"),
                Tree::List(_) => String::from("is a list"),
                Tree::Map(_) => String::from("is a map"),
                Tree::Null | Tree::Text(_) => String::from("is empty"),
            };
            let remedy = match value {
                Tree::Number(_) | Tree::Bool(_) => "put it in quotes",
                _ => "give it one text, or leave it out",
            };
            return Some((format!("{kind}, and GitLab takes a text"), String::from(remedy)));
        };
        if text.contains('$') {
            // What GitLab puts in its place is known in the pipeline.
            return None;
        }
        if !self.options.is_empty() && !self.options.iter().any(|option| option == text) {
            return Some((format!("is `{text}`"), format!("use one of {}", self.options.join(", "))));
        }
        if let Some(pattern) = self.pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
            return Some((format!("is `{text}`"), format!("use what matches `{pattern}`")));
        }
        let is_url = |text: &str| {
            Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        };
        if self.name == "server" && text != NO_SERVER && !is_url(text) {
            let remedy = "use the base URL of your greenroom, such as `https://greenroom.example.com`";
            return Some((format!("is `{text}`, which is no URL"), String::from(remedy)));
        }
        (self.required && text.is_empty())
            .then(|| (String::from("is empty"), String::from("give it a value")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        let Some(findings) = findings(".gitlab-ci.yml", text) else {
            return String::from("no include of ours");
        };
        let lines = findings.iter().map(|it| format!("{}: {}\n  hint: {}", it.place, it.problem, it.remedy));
        lines.collect::<Vec<_>>().join("\n")
    }

    const RIGHT: &str =
        "inputs: {server: https://greenroom.example.com, image: registry.example.com/greenroom}";

    #[test]
    fn it_is_known_however_it_is_included() {
        for entry in [
            "component: $CI_SERVER_FQDN/acme/greenroom/greenroom@0.1.0",
            "project: acme/greenroom\n  file: /ci/greenroom.gitlab-ci.yml",
            "project: acme/greenroom\n  file: [other.yml, ci/greenroom.gitlab-ci.yml]",
            "local: ci/greenroom.gitlab-ci.yml",
            "local: /templates/greenroom.yml",
            "remote: https://example.com/raw/greenroom.gitlab-ci.yml?ref=1",
        ] {
            assert_eq!(told(&format!("include:\n- {entry}\n  {RIGHT}\n")), "", "{entry}");
        }
        for other in [
            "stages: [build]",
            "include: other.yml",
            "include: [{local: a.yml}, {template: Jobs/Build.gitlab-ci.yml}]",
            "include: {component: $CI_SERVER_FQDN/acme/greenroom/lint@1}",
            "include: {local: not-greenroom.gitlab-ci.yml}",
            "a: [",
        ] {
            assert_eq!(told(other), "no include of ours", "{other}");
        }
    }

    #[test]
    fn whatever_else_a_pipeline_says_is_gitlabs_to_judge() {
        let text = "spec:\n  inputs:\n    x: {default: ''}\n---\n.base: &base {script: [true]}\na: {<<: *base, a: 1, a: 2}\n\
                    b:\n  script:\n  - !reference [.base, script]\n  when: on_success\ninclude:\n- local: ci/greenroom.gitlab-ci.yml\n  inputs:\n    server: $GREENROOM\n    image: 'x'\n    mode: $[[ inputs.x ]]\n";
        assert_eq!(told(text), "");
    }

    #[test]
    fn jobs_ask_a_server_or_do_the_work_themselves() {
        let included = |inputs: &str| {
            told(&format!("include:\n- local: greenroom.gitlab-ci.yml\n  inputs: {{image: x, {inputs}}}\n"))
        };
        assert_eq!(included("server: none, instance: acme, engine: kubernetes"), "");
        assert_eq!(included("mode: prepare"), "");
        assert!(included("server: none").contains("neither the input `server` nor `instance`"));
        let told = included("instance: Acme_Previews");
        assert!(told.contains("`instance` of greenroom's include is `Acme_Previews`"), "{told}");
    }

    #[test]
    fn what_it_is_given_is_held_against_what_it_takes() {
        insta::assert_snapshot!(told("include: ci/greenroom.gitlab-ci.yml\n"));
        let text = "stages: [deploy]\ninclude:\n  - local: other.yml\n  - component: gitlab.example.com/acme/greenroom/greenroom@0.1.0\n    \
                    inputs:\n      server: greenroom.example.com\n      foldr: dist\n      version: 1.0\n      mode: prepared\n      \
                    git_strategy: [none]\n      stage:\n";
        insta::assert_snapshot!(told(text));
        insta::assert_snapshot!(told("include:\n- local: greenroom.gitlab-ci.yml\n  inputs: {server: [\n"));
    }
}
