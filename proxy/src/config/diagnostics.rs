//! Mistakes in a file, shown as a compiler shows them.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong, in a line.
    pub message: String,
    /// The bytes of the text that are wrong; none when it is about the file as a whole.
    pub span: Option<Range<usize>>,
    /// What stands beside the caret; may be empty.
    pub label: String,
    /// Another place that has to do with it, and what stands there.
    pub also: Option<(Range<usize>, String)>,
    /// What to do about it.
    pub help: Option<String>,
    /// The dotted key whose file it is about, if that is not the file which is read.
    about: Option<&'static str>,
}

impl Diagnostic {
    pub(super) fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span: Some(span), ..Self::whole(message) }
    }

    pub(super) fn whole(message: impl Into<String>) -> Self {
        let (message, label) = (message.into(), String::new());
        Self { message, span: None, label, also: None, help: None, about: None }
    }

    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    pub(super) fn also(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.also = Some((span, label.into()));
        self
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// It is about the file which that key names.
    pub(super) fn about(mut self, key: &'static str) -> Self {
        self.about = Some(key);
        self
    }
}

/// All mistakes of one file; never empty. `Display` shows them without colours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics {
    name: String,
    pub(super) text: String,
    list: Vec<Diagnostic>,
}

impl std::error::Error for Diagnostics {}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl Diagnostics {
    /// In the order of the text.
    pub(super) fn new(name: &str, text: &str, mut list: Vec<Diagnostic>) -> Self {
        list.sort_by_key(|diagnostic| diagnostic.span.as_ref().map_or(usize::MAX, |span| span.start));
        Self { name: name.to_owned(), text: text.to_owned(), list }
    }

    /// Shown where a text names the files that they are about; those that have places in such a file stay there.
    pub(super) fn named_in(self, name: &str, text: &str, places: &Places) -> Self {
        if self.list.iter().any(|one| one.span.is_some()) {
            return self;
        }
        let place = |mut one: Diagnostic| {
            one.span = one.about.and_then(|key| places.get(key).cloned());
            one
        };
        Self::new(name, text, self.list.into_iter().map(place).collect())
    }

    /// The mistakes, in the order of the text.
    pub fn list(&self) -> &[Diagnostic] {
        &self.list
    }

    /// All of them, an empty line between two, no line end after the last.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let shown: Vec<String> = self.list.iter().map(|one| renderer.render(&[self.group(one)])).collect();
        shown.join("\n\n")
    }

    fn group<'a>(&'a self, diagnostic: &'a Diagnostic) -> Group<'a> {
        let mut group = Group::with_title(Level::ERROR.primary_title(&diagnostic.message));
        if let Some(span) = &diagnostic.span {
            let mut snippet = Snippet::source(&self.text)
                .path(&self.name)
                .annotation(AnnotationKind::Primary.span(self.clamp(span)).label(&diagnostic.label));
            if let Some((place, label)) = &diagnostic.also {
                snippet = snippet.annotation(AnnotationKind::Context.span(self.clamp(place)).label(label));
            }
            group = group.element(snippet);
        }
        if let Some(help) = &diagnostic.help {
            group = group.element(Level::HELP.message(help));
        }
        group
    }

    /// A span within the text, on character boundaries and on one line, so that a mistake in a long array does not
    /// print all of it.
    fn clamp(&self, span: &Range<usize>) -> Range<usize> {
        let start = self.text.floor_char_boundary(span.start.min(self.text.len()));
        let end = self.text.ceil_char_boundary(span.end.clamp(start, self.text.len()));
        let line = self.text[start..end].find('\n').map_or(end, |line| start + line);
        start..line.max(start)
    }
}

/// Where the keys that name files stand, by their dotted names.
pub(super) type Places = BTreeMap<String, Range<usize>>;

/// The text in the bytes of a file.
pub(super) fn text(name: &str, bytes: Vec<u8>) -> Result<String, Diagnostics> {
    String::from_utf8(bytes).map_err(|error| {
        let (at, text) = (error.utf8_error().valid_up_to(), String::from_utf8_lossy(error.as_bytes()));
        let byte = error.as_bytes().get(at).copied().unwrap_or_default();
        let place = at..at + char::REPLACEMENT_CHARACTER.len_utf8();
        let wrong = Diagnostic::new(place, "the file is not UTF-8")
            .label(format!("byte {at} of the file is 0x{byte:02x}"))
            .help("save it as UTF-8: `iconv -t UTF-8` turns other encodings into that");
        Diagnostics::new(name, &text, vec![wrong])
    })
}

/// The file itself is the mistake.
pub(super) fn cannot_read(name: &str, why: &str) -> Diagnostics {
    let diagnostic = Diagnostic::whole(format!("cannot read {name}: {why}"))
        .help("name another file with -c FILE, or start one image with `longshore run IMAGE`");
    Diagnostics::new(name, "", vec![diagnostic])
}
