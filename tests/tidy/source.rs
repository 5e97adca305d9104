//! A Rust file as the rules see it: its words with their lines, without comments and strings, and
//! with what only tests see marked as such.

use std::fmt;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub path: PathBuf,
    pub line: usize,
    pub message: String,
}

/// A file.
pub struct Source {
    pub path: PathBuf,
    pub text: String,
    pub tokens: Vec<Token>,
    pub functions: Vec<Function>,
}

/// A word, a punctuation mark or one end of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    pub line: usize,
    /// Whether only tests see it.
    pub test: bool,
    /// How many modules of this file it stands in.
    pub depth: usize,
}

/// A function with a body.
pub struct Function {
    pub name: String,
    pub first: usize,
    pub last: usize,
}

impl Function {
    pub fn lines(&self) -> usize {
        self.last - self.first + 1
    }
}

impl Violation {
    pub fn new(path: &Path, line: usize, message: &str) -> Self {
        Self { path: path.to_owned(), line, message: message.to_owned() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path.display(), self.line, self.message)
    }
}

impl Source {
    /// The file at `path`; `test` where only tests see it.
    pub fn new(path: &Path, text: &str, test: bool) -> Self {
        let stream: TokenStream =
            text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut source = Self {
            path: path.to_owned(),
            text: text.to_owned(),
            tokens: Vec::new(),
            functions: Vec::new(),
        };
        source.walk(stream, Around { test, depth: 0 });
        source
    }

    /// The top module it belongs to: `camera` for `src/camera/tap.rs`.
    pub fn module(&self) -> Option<&str> {
        let name = self.path.strip_prefix("src").ok()?.components().next()?.as_os_str().to_str()?;
        Some(name.strip_suffix(".rs").unwrap_or(name))
    }

    /// Whether it is part of the product rather than of its tests.
    pub fn is_product(&self) -> bool {
        self.path.starts_with("src")
    }

    pub fn violation(&self, line: usize, message: &str) -> Violation {
        Violation::new(&self.path, line, message)
    }

    /// The words with their lines.
    pub fn words(&self) -> impl Iterator<Item = (&str, usize)> {
        self.tokens.iter().map(|token| (token.text.as_str(), token.line))
    }

    /// The words that also others than tests see.
    pub fn product_words(&self) -> impl Iterator<Item = (&str, usize)> {
        self.tokens
            .iter()
            .filter(|token| !token.test)
            .map(|token| (token.text.as_str(), token.line))
    }

    /// The lines on which these words follow one another.
    pub fn matches(&self, pattern: &[&str]) -> impl Iterator<Item = usize> {
        let windows = self.tokens.windows(pattern.len());
        windows.filter(|window| fits(window, pattern)).map(|window| window[0].line)
    }

    /// The same where others than tests see it.
    pub fn product_matches(&self, pattern: &[&str]) -> impl Iterator<Item = usize> {
        let windows = self.tokens.windows(pattern.len());
        windows
            .filter(|window| !window[0].test && fits(window, pattern))
            .map(|window| window[0].line)
    }

    /// The lines outside tests on which `method(…)` is called with `word` among its arguments.
    pub fn calls_with(&self, method: &str, word: &str) -> Vec<usize> {
        let mut found = Vec::new();
        for (index, token) in self.tokens.iter().enumerate() {
            if token.test || token.text != method || self.text_at(index + 1) != "(" {
                continue;
            }
            let mut open = 0;
            for argument in &self.tokens[index + 1..] {
                match argument.text.as_str() {
                    "(" => open += 1,
                    ")" => open -= 1,
                    text if text == word => found.push(token.line),
                    _ => {}
                }
                if open == 0 {
                    break;
                }
            }
        }
        found
    }

    pub fn text_at(&self, index: usize) -> &str {
        self.tokens.get(index).map_or("", |token| &token.text)
    }

    fn walk(&mut self, stream: TokenStream, around: Around) {
        let trees: Vec<_> = stream.into_iter().collect();
        // What the attributes so far say of the item that follows them.
        let mut test_item = false;
        let mut module_item = false;
        let mut function: Option<(String, usize)> = None;
        for (index, tree) in trees.iter().enumerate() {
            let inside = Around { test: around.test || test_item, ..around };
            match tree {
                TokenTree::Group(group) => {
                    let body = group.delimiter() == Delimiter::Brace;
                    if group.delimiter() == Delimiter::Bracket && is_attribute(&trees, index) {
                        test_item |= is_cfg_test(group);
                    }
                    if let (true, Some((name, first))) = (body, function.take_if(|_| body)) {
                        let last = group.span_close().start().line;
                        self.functions.push(Function { name, first, last });
                    }
                    let depth = around.depth + usize::from(body && module_item);
                    self.group(group, Around { depth, ..inside });
                    if body {
                        (test_item, module_item) = (false, false);
                    }
                }
                TokenTree::Ident(ident) => {
                    let word = ident.to_string();
                    if let (true, Some(TokenTree::Ident(name))) =
                        (word == "fn", trees.get(index + 1))
                    {
                        function = Some((name.to_string(), ident.span().start().line));
                    }
                    module_item |= word == "mod";
                    self.push(&word, ident.span(), inside);
                }
                TokenTree::Punct(mark) => {
                    self.push(&mark.as_char().to_string(), mark.span(), inside);
                    if mark.as_char() == ';' {
                        (test_item, module_item, function) = (false, false, None);
                    }
                }
                TokenTree::Literal(literal) => self.push("\"\"", literal.span(), inside),
            }
        }
    }

    fn group(&mut self, group: &Group, around: Around) {
        let (open, close) = match group.delimiter() {
            Delimiter::Parenthesis => ("(", ")"),
            Delimiter::Brace => ("{", "}"),
            Delimiter::Bracket => ("[", "]"),
            Delimiter::None => ("", ""),
        };
        self.push(open, group.span_open(), around);
        self.walk(group.stream(), around);
        self.push(close, group.span_close(), around);
    }

    fn push(&mut self, text: &str, span: Span, around: Around) {
        let Around { test, depth } = around;
        self.tokens.push(Token { text: text.to_owned(), line: span.start().line, test, depth });
    }
}

#[derive(Clone, Copy)]
struct Around {
    test: bool,
    depth: usize,
}

fn fits(window: &[Token], pattern: &[&str]) -> bool {
    window.iter().zip(pattern).all(|(token, text)| token.text == *text)
}

fn is_attribute(trees: &[TokenTree], index: usize) -> bool {
    let before = index.checked_sub(1).and_then(|before| trees.get(before));
    matches!(before, Some(TokenTree::Punct(mark)) if mark.as_char() == '#')
}

/// `cfg(test)` and `cfg(all(test, …))`, but not `cfg(not(test))`.
pub fn is_cfg_test(attribute: &Group) -> bool {
    let text: String = attribute.stream().to_string().split_whitespace().collect();
    text == "cfg(test)" || text.starts_with("cfg(all(test,")
}
