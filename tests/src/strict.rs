//! A parser of HTTP/1.1 requests that is as strict as RFC 9112 is: what an instance gets must pass it, and what it makes
//! of a client's bytes is what the proxy must make of them.

/// A whole request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its method.
    pub method: String,
    /// Its target, as it was written.
    pub target: String,
    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    pub minor: u8,
    /// Its head, as it was written.
    pub head: String,
    /// Its fields in their order; names in lower case.
    pub fields: Vec<(String, Vec<u8>)>,
    /// Its body, without its framing.
    pub body: Vec<u8>,
    /// Fields after its body.
    pub trailers: Vec<(String, Vec<u8>)>,
    /// Whether nothing after it on the same connection is a request.
    pub closes: bool,
}

/// What bytes begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// A whole request, and how many bytes it takes.
    Whole(Box<Message>, usize),
    /// Not yet a whole one.
    Incomplete,
    /// Nothing that may be taken for one.
    Violation(String),
}

/// Who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// An instance behind a proxy: nothing needs to be tolerated.
    Instance,
    /// A proxy. What RFC 9112 lets a recipient tolerate is tolerated: blank lines before a request (2.2), lines of the
    /// head that end in LF alone (2.2), a length beside `chunked`, which does not count (6.3), and the same length twice
    /// (6.3). The extensions of a chunk are not looked at, but for their end. In trailers, an empty line that ends in LF alone ends them, and what follows up to a proper one is dropped.
    Proxy,
}

type Checked<T> = Result<T, Stop>;

enum Stop {
    Incomplete,
    Violation(String),
}

fn violation<T>(text: impl Into<String>) -> Checked<T> {
    Err(Stop::Violation(text.into()))
}

/// Reads the first request of `bytes`.
pub fn next(bytes: &[u8], reader: Reader) -> Next {
    let mut cursor = Cursor { bytes, at: 0, reader };
    match cursor.message() {
        Ok(message) => Next::Whole(Box::new(message), cursor.at),
        Err(Stop::Incomplete) => Next::Incomplete,
        Err(Stop::Violation(text)) => Next::Violation(text),
    }
}

/// All requests of a connection, and what follows them: no more, an incomplete one, or a violation.
pub fn all(mut bytes: &[u8], reader: Reader) -> (Vec<Message>, Next) {
    let mut messages: Vec<Message> = Vec::new();
    loop {
        match next(bytes, reader) {
            Next::Whole(message, length) => {
                bytes = &bytes[length..];
                let closes = message.closes;
                messages.push(*message);
                if closes {
                    return (messages, Next::Violation("the connection is over".to_owned()));
                }
            }
            end @ (Next::Incomplete | Next::Violation(_)) => return (messages, end),
        }
    }
}

impl Message {
    /// The values of a field.
    pub fn values(&self, name: &str) -> Vec<String> {
        let named = self.fields.iter().filter(|(field, _)| field == name);
        named.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    reader: Reader,
}

impl Cursor<'_> {
    fn message(&mut self) -> Checked<Message> {
        if self.reader == Reader::Proxy {
            while self.rest().starts_with(b"\r\n") || self.rest().starts_with(b"\n") {
                self.at += if self.rest()[0] == b'\r' { 2 } else { 1 };
            }
        }
        let start = self.at;
        let line = self.line(self.reader == Reader::Proxy, false)?;
        let (method, target, minor) = request_line(line)?;
        let fields = self.fields(self.reader == Reader::Proxy)?;
        let head = String::from_utf8_lossy(&self.bytes[start..self.at]).into_owned();
        check_host(&fields, minor)?;
        let framing = self.framing(&fields, minor)?;
        let mut trailers = Vec::new();
        let body = match framing.body {
            Body::Length(length) => self.take(length)?.to_vec(),
            Body::Chunked => {
                let body = self.chunks()?;
                trailers = match self.reader {
                    Reader::Instance => self.fields(false)?,
                    Reader::Proxy => self.trailers()?,
                };
                body
            }
        };
        let connection = |token: &str| {
            let values = fields.iter().filter(|(name, _)| name == "connection");
            values
                .flat_map(|(_, value)| value.split(|byte| *byte == b','))
                .any(|part| part.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
        };
        let closes = framing.last || connection("close") || (minor == 0 && !connection("keep-alive"));
        Ok(Message { method, target, minor, head, fields, body, trailers, closes })
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    fn take(&mut self, length: usize) -> Checked<&[u8]> {
        let end = self.at.checked_add(length).ok_or(Stop::Incomplete)?;
        let taken = self.bytes.get(self.at..end).ok_or(Stop::Incomplete)?;
        self.at = end;
        Ok(taken)
    }

    /// A line without its end.
    fn line(&mut self, bare_lf: bool, nul: bool) -> Checked<&[u8]> {
        let rest = self.rest();
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
            // A line that is wrong already will not become right.
            return match rest.iter().position(|byte| *byte == b'\r') {
                Some(cr) if cr + 1 < rest.len() => violation("a CR without an LF"),
                Some(_) | None => Err(Stop::Incomplete),
            };
        };
        let line = match rest[..end].strip_suffix(b"\r") {
            Some(line) => line,
            None if bare_lf => &rest[..end],
            None => return violation("an LF without a CR"),
        };
        if line.contains(&b'\r') || (line.contains(&0) && !nul) {
            return violation("a CR or NUL within a line");
        }
        let length = line.len();
        let start = self.at;
        self.at += end + 1;
        Ok(&self.bytes[start..start + length])
    }

    fn fields(&mut self, bare_lf: bool) -> Checked<Vec<(String, Vec<u8>)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line(bare_lf, false)?;
            if line.is_empty() {
                return Ok(fields);
            }
            let Some(colon) = line.iter().position(|byte| *byte == b':') else {
                return violation("a field without a colon");
            };
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
                return violation("a field name that is no token");
            }
            if value.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f) {
                return violation("a control character in a value");
            }
            fields.push((String::from_utf8_lossy(name).to_lowercase(), value.to_vec()));
        }
    }

    /// The lines up to an empty one that ends in CRLF. What stands behind one that ends in LF alone is dropped.
    fn trailers(&mut self) -> Checked<Vec<(String, Vec<u8>)>> {
        let rest = self.rest();
        let length = if rest.starts_with(b"\r\n") {
            0
        } else {
            let end = rest.windows(4).position(|four| four == b"\r\n\r\n").ok_or(Stop::Incomplete)?;
            end + 2
        };
        let mut block = rest[..length].to_vec();
        block.extend_from_slice(b"\r\n");
        let mut inner = Cursor { bytes: &block, at: 0, reader: self.reader };
        let fields = inner.fields(true)?;
        self.at += length + 2;
        Ok(fields)
    }

    fn framing(&self, fields: &[(String, Vec<u8>)], minor: u8) -> Checked<Framing> {
        let values = |wanted: &'static str| {
            fields.iter().filter(move |(name, _)| name == wanted).map(|(_, value)| value)
        };
        let lengths: Vec<&Vec<u8>> = values("content-length").collect();
        let codings: Vec<&Vec<u8>> = values("transfer-encoding").collect();
        let tolerant = self.reader == Reader::Proxy;
        match (codings.as_slice(), lengths.as_slice()) {
            ([], []) => Ok(Framing { body: Body::Length(0), last: false }),
            ([], [first, others @ ..]) => {
                if !others.is_empty() && (!tolerant || others.iter().any(|other| other != first)) {
                    return violation("more than one Content-Length");
                }
                let digits = !first.is_empty() && first.iter().all(u8::is_ascii_digit);
                let length = std::str::from_utf8(first).ok().filter(|_| digits);
                let length = length.and_then(|length| length.parse::<u64>().ok());
                match length.and_then(|length| usize::try_from(length).ok()) {
                    Some(length) => Ok(Framing { body: Body::Length(length), last: false }),
                    None => violation("a Content-Length that is no number"),
                }
            }
            ([coding], lengths) if coding.eq_ignore_ascii_case(b"chunked") && minor == 1 => {
                if !tolerant && !lengths.is_empty() {
                    return violation("Content-Length beside Transfer-Encoding");
                }
                Ok(Framing { body: Body::Chunked, last: !lengths.is_empty() })
            }
            (_, _) => violation("a Transfer-Encoding that is not one `chunked`"),
        }
    }

    fn chunks(&mut self) -> Checked<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let size = chunk_size(self.line(false, self.reader == Reader::Proxy)?)?;
            if size == 0 {
                return Ok(body);
            }
            body.extend_from_slice(self.take(size)?);
            if self.rest().len() >= 2 && !self.rest().starts_with(b"\r\n") || self.rest().starts_with(b"\n") {
                return violation("a chunk that is longer than its size");
            }
            self.take(2)?;
        }
    }
}

struct Framing {
    body: Body,
    /// What follows is not to be trusted.
    last: bool,
}

enum Body {
    Length(usize),
    Chunked,
}

/// The size of a chunk; spaces may stand around it, and extensions follow.
fn chunk_size(line: &[u8]) -> Checked<usize> {
    let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let digits = size.trim_ascii_end();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return violation("a chunk size that is no number");
    }
    let number = std::str::from_utf8(digits).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
    match number.and_then(|number| usize::try_from(number).ok()) {
        Some(size) => Ok(size),
        None => violation("a chunk size that is too large"),
    }
}

fn request_line(line: &[u8]) -> Checked<(String, String, u8)> {
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [method, target, version] = words.as_slice() else {
        return violation("a request line that is not three words");
    };
    if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
        return violation("a method that is no token");
    }
    let begins =
        |scheme: &[u8]| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    let form = target.starts_with(b"/")
        || begins(b"http://")
        || begins(b"https://")
        || (*target == b"*" && *method == b"OPTIONS");
    if !form || *method == b"CONNECT" || target.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
        return violation("a target in none of the forms");
    }
    let minor = match *version {
        b"HTTP/1.1" => 1,
        b"HTTP/1.0" => 0,
        _ => return violation("a version that is not spoken"),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((text(method), text(target), minor))
}

fn check_host(fields: &[(String, Vec<u8>)], minor: u8) -> Checked<()> {
    let mut hosts = fields.iter().filter(|(name, _)| name == "host");
    match (hosts.next(), hosts.next()) {
        (Some((_, host)), None) if host.iter().all(|byte| is_host(*byte)) => Ok(()),
        (Some(_), None) => violation("a Host that is no host"),
        (Some(_), Some(_)) => violation("more than one Host"),
        (None, _) if minor == 0 => Ok(()),
        (None, _) => violation("no Host"),
    }
}

/// RFC 9110, 5.6.2.
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// RFC 3986, 3.2.2, and a port.
const fn is_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'%'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
                | b':'
                | b'['
                | b']'
        )
}
