//! Which resource a path is: templates, matched part by part.
//!
//! A template is literals and placeholders: `{name}` and `{path}` stand for
//! one part or more, every other one for exactly one that is not empty. The
//! ends of a template fix what is between them, so that what stands for
//! several parts may contain any literal. The first template that fits wins;
//! one that fits but for a slash at the end leads to where it would.

use hyper::Method;
use percent_encoding::percent_decode_str;

/// Placeholders that stand for one part or more.
const LONG: [&str; 2] = ["name", "path"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Literal(&'static str),
    One(&'static str),
    Several(&'static str),
}

/// A resource: its path, and what each method does there.
#[derive(Debug)]
pub struct Route<T> {
    template: &'static str,
    parts: Vec<Part>,
    methods: Vec<(Method, T)>,
    is_lenient: bool,
}

/// Makes a resource.
///
/// # Panics
/// When the template has two placeholders that stand for several parts.
pub fn route<T>(template: &'static str, methods: impl Into<Vec<(Method, T)>>) -> Route<T> {
    let parts: Vec<Part> = template.split('/').skip(1).map(part).collect();
    let several = parts.iter().filter(|part| matches!(part, Part::Several(_))).count();
    assert!(several <= 1, "{template}: nothing tells where the first one ends");
    Route {
        template,
        parts,
        methods: methods.into(),
        is_lenient: false,
    }
}

fn part(text: &'static str) -> Part {
    match text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
        None => Part::Literal(text),
        Some(name) if LONG.contains(&name) => Part::Several(name),
        Some(name) => Part::One(name),
    }
}

impl<T> Route<T> {
    /// Takes a path with or without a slash at its end, without sending
    /// anybody elsewhere.
    #[must_use]
    pub fn lenient(mut self) -> Self {
        self.is_lenient = true;
        self
    }

    /// Returns its path with names for what varies.
    pub fn template(&self) -> &'static str {
        self.template
    }

    /// Returns what a method does; HEAD does what GET does.
    pub fn method(&self, method: &Method) -> Option<&T> {
        let wanted = if *method == Method::HEAD { &Method::GET } else { method };
        let found = self.methods.iter().find(|(known, _)| known == wanted);
        found.map(|(_, action)| action)
    }

    /// Returns its methods, with what each does.
    pub fn methods(&self) -> impl Iterator<Item = (&Method, &T)> {
        self.methods.iter().map(|(method, action)| (method, action))
    }

    fn matches(&self, path: &[&str]) -> Option<Params> {
        let mut params = Vec::new();
        let (mut own, mut path) = (self.parts.as_slice(), path);
        let single = |part: &Part, text: &str, params: &mut Vec<(&'static str, String)>| match part {
            Part::Literal(literal) => text == *literal,
            Part::One(name) => {
                params.push((*name, text.to_owned()));
                !text.is_empty()
            }
            Part::Several(_) => false,
        };
        // From the left up to what stands for several parts, then from the right.
        while let [first, rest @ ..] = own
            && !matches!(first, Part::Several(_))
        {
            let [text, others @ ..] = path else { return None };
            if !single(first, text, &mut params) {
                return None;
            }
            (own, path) = (rest, others);
        }
        while let [rest @ .., last] = own
            && !matches!(last, Part::Several(_))
        {
            let [others @ .., text] = path else { return None };
            if !single(last, text, &mut params) {
                return None;
            }
            (own, path) = (rest, others);
        }
        match own {
            [] if path.is_empty() => {}
            [Part::Several(name)] if !path.is_empty() => params.push((*name, path.join("/"))),
            _ => return None,
        }
        Some(Params(params))
    }

    /// Returns the path with something in place of each placeholder, in the
    /// order of the template.
    pub fn fill(&self, mut values: impl Iterator<Item = String>) -> String {
        let mut path = String::new();
        for part in &self.parts {
            path.push('/');
            match part {
                Part::Literal(literal) => path.push_str(literal),
                Part::One(_) | Part::Several(_) => path.push_str(&values.next().unwrap_or_default()),
            }
        }
        path
    }

    /// Returns the names of its placeholders, in the order of the template.
    pub fn placeholders(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.parts.iter().filter_map(|part| match part {
            Part::Literal(_) => None,
            Part::One(name) | Part::Several(name) => Some(*name),
        })
    }
}

/// What stands in a path for the placeholders of its template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(Vec<(&'static str, String)>);

impl Params {
    /// Returns what stands for a placeholder; nothing where the template has none of that name.
    pub fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(known, _)| *known == name);
        found.map_or("", |(_, text)| text)
    }

    /// Returns what stands for several parts, if anything does.
    pub fn long(&self) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| LONG.contains(known));
        found.map(|(_, text)| text.as_str())
    }
}

/// What a path leads to.
#[derive(Debug)]
pub enum Found<'a, T> {
    /// A resource.
    Resource(&'a Route<T>, Params),
    /// One that is at this path: a slash is too many, or missing.
    Moved(String),
    /// Nothing.
    Nothing,
}

/// The resources of a server, in the order in which they are looked at.
#[derive(Debug)]
pub struct Table<T> {
    routes: Vec<Route<T>>,
    /// Says whether something can stand for several parts.
    is_name: fn(&str) -> bool,
}

impl<T> Table<T> {
    /// Makes a table; `is_name` says what can stand for several parts.
    pub fn new(is_name: fn(&str) -> bool, routes: impl Into<Vec<Route<T>>>) -> Self {
        Self {
            routes: routes.into(),
            is_name,
        }
    }

    /// Returns the resources.
    pub fn routes(&self) -> &[Route<T>] {
        &self.routes
    }

    /// Finds what a path, still percent-encoded, leads to.
    pub fn find(&self, path: &str) -> Found<'_, T> {
        let Ok(decoded) = percent_decode_str(path).decode_utf8() else {
            return Found::Nothing;
        };
        let Some(rest) = decoded.strip_prefix('/') else {
            return Found::Nothing;
        };
        let parts: Vec<&str> = rest.split('/').collect();
        let shorter = path.trim_end_matches('/');
        let cut: Vec<&str> = rest.trim_end_matches('/').split('/').collect();
        let with_slash: Vec<&str> = parts.iter().copied().chain([""]).collect();
        let fits = |route: &Route<T>, parts: &[&str]| {
            let params = route.matches(parts)?;
            params.long().is_none_or(self.is_name).then_some(params)
        };
        for route in &self.routes {
            if let Some(params) = fits(route, &parts) {
                return Found::Resource(route, params);
            }
            let other = if rest.ends_with('/') { &cut } else { &with_slash };
            if let Some(params) = fits(route, other) {
                if route.is_lenient {
                    return Found::Resource(route, params);
                }
                return Found::Moved(if rest.ends_with('/') {
                    shorter.to_owned()
                } else {
                    format!("{path}/")
                });
            }
        }
        match cleaned(path) {
            // A name in which slashes are doubled is none.
            Some(clean) if !matches!(self.find(&clean), Found::Nothing) => Found::Moved(clean),
            _ => Found::Nothing,
        }
    }
}

/// Returns a path without doubled slashes, where it has any: Go's servers send
/// clients there.
fn cleaned(path: &str) -> Option<String> {
    let mut clean = path.to_owned();
    while clean.contains("//") {
        clean = clean.replace("//", "/");
    }
    (clean != path).then_some(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table<u8> {
        let is_name = |text: &str| !text.is_empty() && text.split('/').all(|part| !matches!(part, "" | "." | ".."));
        Table::new(
            is_name,
            [
                route("/v2/", [(Method::GET, 1)]),
                route("/v2/{name}/tags/list", [(Method::GET, 2)]),
                route("/v2/{name}/blobs/uploads/", [(Method::POST, 3)]),
                route("/v2/{name}/blobs/{digest}", [(Method::GET, 4), (Method::DELETE, 5)]),
                route("/own/{path}/", [(Method::GET, 6)]).lenient(),
            ],
        )
    }

    fn found(path: &str) -> String {
        match table().find(path) {
            Found::Resource(route, params) => {
                format!("{} {:?} {}", route.template(), params.long(), params.get("digest"))
            }
            Found::Moved(path) => format!("-> {path}"),
            Found::Nothing => "nothing".to_owned(),
        }
    }

    #[test]
    fn the_ends_of_a_path_decide() {
        for (path, expected) in [
            ("/v2/", "/v2/ None "),
            ("/v2", "-> /v2/"),
            ("/v2/tags/list/tags/list", "/v2/{name}/tags/list Some(\"tags/list\") "),
            ("/v2/a/tags/list/", "-> /v2/a/tags/list"),
            (
                "/v2/a/blobs/blobs/x%3Ay",
                "/v2/{name}/blobs/{digest} Some(\"a/blobs\") x:y",
            ),
            ("/v2/a/blobs/uploads", "-> /v2/a/blobs/uploads/"),
            ("/v2/a/blobs/", "nothing"),
            ("/v2/tags/list", "nothing"),
            ("/v2//tags/list", "nothing"),
            ("/v2/../tags/list", "nothing"),
            ("/v2/a%2F..%2Fb/tags/list", "nothing"),
            ("/v2/%ff/tags/list", "nothing"),
            ("/own/a/b", "/own/{path}/ Some(\"a/b\") "),
            ("/own/a/b/", "/own/{path}/ Some(\"a/b\") "),
            ("own", "nothing"),
            ("//evil/tags/list/", "nothing"),
            ("//v2/", "-> /v2/"),
            ("/v2//a///tags/list", "-> /v2/a/tags/list"),
            ("//v2/a//tags/list/", "-> /v2/a/tags/list/"),
            ("/v2/a/..//tags/list", "nothing"),
        ] {
            assert_eq!(found(path), expected, "{path}");
        }
    }

    #[test]
    fn head_does_what_get_does() {
        let table = table();
        let Found::Resource(route, _) = table.find("/v2/a/blobs/x") else {
            panic!("not found");
        };
        assert_eq!(route.method(&Method::HEAD), Some(&4));
        assert_eq!(route.method(&Method::DELETE), Some(&5));
        assert_eq!(route.method(&Method::PUT), None);
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_as_the_same(name in "[a-z]{1,3}(/(tags|list|blobs|uploads|[a-z]{1,3})){0,4}", digest in "[a-z0-9:]{1,9}") {
            let table = table();
            for route in table.routes() {
                let values = route.placeholders().map(|place| if place == "digest" { digest.clone() } else { name.clone() });
                let path = route.fill(values);
                // A digest that is `uploads` is that resource without its slash.
                if digest == "uploads" {
                    continue;
                }
                let Found::Resource(found, params) = table.find(&path) else {
                    panic!("{path} leads nowhere");
                };
                proptest::prop_assert_eq!(found.template(), route.template());
                proptest::prop_assert!(params.long().is_none_or(|long| long == name));
            }
        }

        #[test]
        fn finding_never_panics(path in "/(v2/)?[ -~]{0,60}") {
            let _ = table().find(&path);
        }
    }
}
