//! Which file uses what of which other, read off the syntax.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};

/// A use of something that another file of the crate defines.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// The file that uses it, below `src`.
    pub from: String,
    /// The file that defines it.
    pub to: String,
    /// What it is.
    pub name: String,
}

/// What a file says, without its unit tests.
pub struct File {
    /// Below `src`.
    pub path: String,
    /// Lines, unit tests and all.
    pub lines: usize,
    /// Every path that is named, as it is meant: `crate` and what follows, or
    /// another crate's name and what follows.
    pub named: BTreeSet<Vec<String>>,
    /// Text in quotes.
    pub texts: Vec<String>,
    /// Functions and how many lines each has.
    pub functions: Vec<(String, usize)>,
    /// Names that other files can reach through this one.
    passed_on: Vec<Passed>,
    defined: BTreeSet<String>,
}

/// A name that a `use` makes another's: `None` is a glob.
struct Passed {
    name: Option<String>,
    path: Vec<String>,
}

/// The files of a crate.
pub struct Graph {
    pub files: Vec<File>,
    /// Module to file.
    modules: BTreeMap<Vec<String>, usize>,
}

impl Graph {
    /// Reads files, given as paths below `src` and their text.
    pub fn new(sources: &[(String, String)]) -> Self {
        let modules: BTreeMap<Vec<String>, usize> = sources
            .iter()
            .enumerate()
            .map(|(number, (path, _))| (module_of(path), number))
            .collect();
        let files = sources.iter().map(|(path, text)| read(path, text, &modules)).collect();
        Self { files, modules }
    }

    /// Returns every use of one file by another.
    pub fn edges(&self) -> BTreeSet<Edge> {
        let mut edges = BTreeSet::new();
        for file in &self.files {
            for path in file.named.iter().filter(|path| path[0] == "crate") {
                for (to, name) in self.defining(&path[1..], 0) {
                    if self.files[to].path != file.path {
                        edges.insert(Edge {
                            from: file.path.clone(),
                            to: self.files[to].path.clone(),
                            name,
                        });
                    }
                }
            }
        }
        edges
    }

    /// Follows a path to the file that defines what it names.
    fn defining(&self, path: &[String], depth: usize) -> Vec<(usize, String)> {
        let known = (0..=path.len())
            .rev()
            .find(|end| self.modules.contains_key(&path[..*end]));
        let Some(end) = known else { return Vec::new() };
        let Some(name) = path.get(end) else {
            // A module by itself; what is used of it is named elsewhere.
            return Vec::new();
        };
        let number = self.modules[&path[..end]];
        let file = &self.files[number];
        if file.defined.contains(name) || depth > 8 {
            return vec![(number, name.clone())];
        }
        let rest = &path[end + 1..];
        for passed in &file.passed_on {
            let follows = match &passed.name {
                Some(other) if other == name => passed.path.clone(),
                Some(_) => continue,
                None => passed.path.iter().chain([name]).cloned().collect(),
            };
            let Some("crate") = follows.first().map(String::as_str) else {
                continue;
            };
            let follows: Vec<String> = follows[1..].iter().chain(rest).cloned().collect();
            let found = self.defining(&follows, depth + 1);
            let is_there = |(number, name): &(usize, String)| self.files[*number].defined.contains(name);
            if passed.name.is_some() || found.iter().any(is_there) {
                return found;
            }
        }
        vec![(number, name.clone())]
    }
}

/// Returns the sets of two files or more that all use one another.
pub fn circles(edges: &BTreeSet<Edge>) -> Vec<BTreeSet<String>> {
    let mut next: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for edge in edges {
        next.entry(&edge.from).or_default().insert(&edge.to);
    }
    let reached = |start: &str| {
        let mut reached = BTreeSet::new();
        let mut waiting = vec![start];
        while let Some(at) = waiting.pop() {
            for to in next.get(at).into_iter().flatten() {
                if reached.insert((*to).to_owned()) {
                    waiting.push(to);
                }
            }
        }
        reached
    };
    let reached: BTreeMap<&str, BTreeSet<String>> = next.keys().map(|file| (*file, reached(file))).collect();
    let mut circles = BTreeSet::new();
    for (file, from_it) in &reached {
        let circle: BTreeSet<String> = from_it
            .iter()
            .filter(|other| reached.get(other.as_str()).is_some_and(|back| back.contains(*file)))
            .cloned()
            .collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

/// Returns the module that a file below `src` is.
fn module_of(path: &str) -> Vec<String> {
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let path = path.strip_suffix("/mod").unwrap_or(path);
    match path {
        "lib" => Vec::new(),
        path => path.split('/').map(str::to_owned).collect(),
    }
}

fn read(path: &str, text: &str, modules: &BTreeMap<Vec<String>, usize>) -> File {
    let syntax = syn::parse_file(text).unwrap_or_else(|error| panic!("src/{path}: {error}"));
    let mut reader = Reader {
        modules,
        module: module_of(path),
        inner: 0,
        aliases: BTreeMap::new(),
        file: File {
            path: path.to_owned(),
            lines: text.lines().count(),
            named: BTreeSet::new(),
            texts: Vec::new(),
            functions: Vec::new(),
            passed_on: Vec::new(),
            defined: BTreeSet::new(),
        },
    };
    reader.imports(&syntax.items);
    reader.visit_file(&syntax);
    reader.file
}

struct Reader<'a> {
    modules: &'a BTreeMap<Vec<String>, usize>,
    module: Vec<String>,
    /// How many modules in the file itself this is inside of.
    inner: usize,
    /// What a name stands for in this file.
    aliases: BTreeMap<String, Vec<String>>,
    file: File,
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && attribute
                    .meta
                    .require_list()
                    .is_ok_and(|list| list.tokens.to_string() == "test")
    })
}

impl Reader<'_> {
    /// Learns what `use` declarations make of names, before anything else.
    fn imports(&mut self, items: &[syn::Item]) {
        // Twice: a name may be used before the line that brings it.
        for _ in 0..2 {
            self.file.passed_on.clear();
            for item in items {
                if let syn::Item::Use(item) = item
                    && !is_test(&item.attrs)
                {
                    let mut leaves = Vec::new();
                    leaves_of(&item.tree, &mut Vec::new(), &mut leaves);
                    for (path, name) in leaves {
                        let path = self.meant(&path);
                        if let Some(name) = &name {
                            self.aliases.insert(name.clone(), path.clone());
                        }
                        self.file.passed_on.push(Passed { name, path });
                    }
                }
            }
        }
    }

    /// Returns the path as it is meant, from the crate or another's name.
    fn meant(&self, path: &[String]) -> Vec<String> {
        let own = || std::iter::once("crate".to_owned()).chain(self.module.iter().cloned());
        let mut above = self.module.clone();
        let mut rest = path;
        match path[0].as_str() {
            "crate" => return path.to_vec(),
            "kdk" if self.module == ["main"] => {
                return std::iter::once("crate".to_owned())
                    .chain(path[1..].iter().cloned())
                    .collect();
            }
            "self" => return own().chain(path[1..].iter().cloned()).collect(),
            "super" => {
                let mut up = 0;
                while rest.first().is_some_and(|part| part == "super") {
                    rest = &rest[1..];
                    up += 1;
                }
                // Modules inside the file come off first.
                for _ in self.inner.min(up)..up {
                    above.pop();
                }
                return std::iter::once("crate".to_owned())
                    .chain(above)
                    .chain(rest.iter().cloned())
                    .collect();
            }
            first => {
                if let Some(alias) = self.aliases.get(first).filter(|alias| alias.as_slice() != path) {
                    return alias.iter().chain(&path[1..]).cloned().collect();
                }
                above.push(first.to_owned());
                if self.modules.contains_key(&above) {
                    return own().chain(path.iter().cloned()).collect();
                }
            }
        }
        path.to_vec()
    }

    fn name(&mut self, path: &[String]) {
        let meant = self.meant(path);
        if meant.len() > 1 {
            self.file.named.insert(meant);
        }
    }

    fn function(&mut self, name: &syn::Ident, item: &dyn syn::spanned::Spanned) {
        let span = item.span();
        let lines = span.end().line - span.start().line + 1;
        self.file.functions.push((name.to_string(), lines));
    }

    /// Looks for paths in what a macro is given.
    fn tokens(&mut self, tokens: proc_macro2::TokenStream) {
        use proc_macro2::TokenTree;
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.end(&mut path);
                    }
                    colons = 0;
                    path.push(ident.to_string());
                }
                other => {
                    self.end(&mut path);
                    colons = 0;
                    match other {
                        TokenTree::Group(group) => self.tokens(group.stream()),
                        TokenTree::Literal(literal) => {
                            if let syn::Lit::Str(text) = syn::Lit::new(literal) {
                                self.file.texts.push(text.value());
                            }
                        }
                        _ => {}
                    }
                }
            }
        }
        self.end(&mut path);
    }

    fn end(&mut self, path: &mut Vec<String>) {
        if path.len() > 1 {
            self.name(&path.clone());
        }
        path.clear();
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        use syn::Item;
        let (attributes, name): (&[syn::Attribute], Option<&syn::Ident>) = match item {
            Item::Const(item) => (&item.attrs, Some(&item.ident)),
            Item::Enum(item) => (&item.attrs, Some(&item.ident)),
            Item::Fn(item) => (&item.attrs, Some(&item.sig.ident)),
            Item::Macro(item) => (&item.attrs, item.ident.as_ref()),
            Item::Mod(item) => (&item.attrs, None),
            Item::Static(item) => (&item.attrs, Some(&item.ident)),
            Item::Struct(item) => (&item.attrs, Some(&item.ident)),
            Item::Trait(item) => (&item.attrs, Some(&item.ident)),
            Item::Type(item) => (&item.attrs, Some(&item.ident)),
            Item::Union(item) => (&item.attrs, Some(&item.ident)),
            Item::Impl(item) => (&item.attrs, None),
            Item::Use(item) => (&item.attrs, None),
            _ => (&[], None),
        };
        if is_test(attributes) {
            return;
        }
        if let (Some(name), 0) = (name, self.inner) {
            self.file.defined.insert(name.to_string());
        }
        match item {
            Item::Mod(module) => {
                let Some((_, items)) = &module.content else { return };
                self.inner += 1;
                let outer = self.aliases.clone();
                for item in items {
                    if let Item::Use(item) = item {
                        let mut leaves = Vec::new();
                        leaves_of(&item.tree, &mut Vec::new(), &mut leaves);
                        for (path, name) in leaves {
                            let path = self.meant(&path);
                            if let Some(name) = name {
                                self.aliases.insert(name, path);
                            }
                        }
                    }
                }
                for item in items {
                    self.visit_item(item);
                }
                self.aliases = outer;
                self.inner -= 1;
            }
            Item::Fn(function) => {
                self.function(&function.sig.ident, function);
                visit::visit_item(self, item);
            }
            _ => visit::visit_item(self, item),
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let mut leaves = Vec::new();
        leaves_of(&item.tree, &mut Vec::new(), &mut leaves);
        for (mut path, name) in leaves {
            if name.is_none() {
                path.push("*".to_owned());
            }
            // The alias that this very line made stands for the path itself.
            let meant = match &name {
                Some(name) if path[0] != "crate" && self.aliases.contains_key(name) => self.aliases[name].clone(),
                _ => self.meant(&path),
            };
            self.file.named.insert(meant);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !is_test(&function.attrs) {
            self.function(&function.sig.ident, function);
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<String> = path.segments.iter().map(|part| part.ident.to_string()).collect();
        if parts.len() > 1 && path.leading_colon.is_none() {
            self.name(&parts);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.tokens(call.tokens.clone());
    }

    fn visit_lit_str(&mut self, text: &'ast syn::LitStr) {
        self.file.texts.push(text.value());
    }

    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}
}

/// Returns every name that a `use` brings, with its path.
fn leaves_of(tree: &syn::UseTree, above: &mut Vec<String>, leaves: &mut Vec<(Vec<String>, Option<String>)>) {
    match tree {
        syn::UseTree::Path(path) => {
            above.push(path.ident.to_string());
            leaves_of(&path.tree, above, leaves);
            above.pop();
        }
        syn::UseTree::Name(name) if name.ident == "self" => {
            leaves.push((above.clone(), above.last().cloned()));
        }
        syn::UseTree::Name(name) => {
            let path = above.iter().cloned().chain([name.ident.to_string()]).collect();
            leaves.push((path, Some(name.ident.to_string())));
        }
        syn::UseTree::Rename(rename) => {
            let own = (rename.ident != "self").then(|| rename.ident.to_string());
            let path = above.iter().cloned().chain(own).collect();
            leaves.push((path, Some(rename.rename.to_string())));
        }
        syn::UseTree::Glob(_) => leaves.push((above.clone(), None)),
        syn::UseTree::Group(group) => {
            for tree in &group.items {
                leaves_of(tree, above, leaves);
            }
        }
    }
}
