//! Where the content of a request ends (RFC 9112, 6 and 7), and its bytes up to there.

use std::mem::MaybeUninit;

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Chunk extensions of one request at the most, in bytes: nobody reads them.
const MAX_EXTENSIONS: usize = 16 * 1024;

/// Fields after a body at the most, and their bytes.
const MAX_TRAILERS: usize = 100;
const MAX_TRAILER_BYTES: usize = 16 * 1024;

/// How content is framed, and how far it has come.
#[derive(Debug)]
pub enum Decoder {
    /// Nothing is left of it.
    Over,
    /// So many bytes are.
    Length(u64),
    /// It comes in chunks.
    Chunked(Chunks),
}

/// The next piece of content.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes.
    Data(Bytes),
    /// Fields after them, which are the end of it.
    Trailers(HeaderMap),
    /// There is no more.
    End,
    /// Nothing yet: more has to be received.
    None,
}

/// Content in chunks.
#[derive(Debug, Default)]
pub struct Chunks {
    at: At,
    extensions: usize,
    trailers: Vec<u8>,
}

/// Where in the chunks the next byte is.
#[derive(Clone, Copy, Debug)]
enum At {
    /// In a size that has so many digits so far.
    Size(u64, u8),
    /// Behind the digits of a size.
    Space(u64),
    Extension(u64),
    SizeLf(u64),
    Data(u64),
    DataCr,
    DataLf,
    Trailers,
}

impl Default for At {
    fn default() -> Self {
        Self::Size(0, 0)
    }
}

impl Decoder {
    /// Whether all of it has been taken.
    pub const fn is_over(&self) -> bool {
        matches!(self, Self::Over)
    }

    /// How much is left, where that is known.
    pub const fn left(&self) -> Option<u64> {
        match self {
            Self::Over => Some(0),
            Self::Length(left) => Some(*left),
            Self::Chunked(_) => None,
        }
    }

    /// Takes the next piece out of what was received.
    ///
    /// # Errors
    /// What is wrong with its framing.
    pub fn decode(&mut self, received: &mut Bytes) -> Result<Piece, &'static str> {
        let piece = match self {
            Self::Over => Piece::End,
            Self::Length(_) if received.is_empty() => Piece::None,
            Self::Length(left) => {
                let data = take(received, *left);
                *left -= data.len() as u64;
                if *left == 0 {
                    *self = Self::Over;
                }
                Piece::Data(data)
            }
            Self::Chunked(chunks) => chunks.decode(received)?,
        };
        if matches!(piece, Piece::Trailers(_) | Piece::End) {
            *self = Self::Over;
        }
        Ok(piece)
    }
}

impl Chunks {
    fn decode(&mut self, received: &mut Bytes) -> Result<Piece, &'static str> {
        while let Some(next) = received.first().copied() {
            match self.at {
                At::Data(left) => {
                    let data = take(received, left);
                    let left = left - data.len() as u64;
                    self.at = if left == 0 { At::DataCr } else { At::Data(left) };
                    return Ok(Piece::Data(data));
                }
                At::Trailers => {
                    received.advance(1);
                    if let Some(end) = self.trailer(next)? {
                        return Ok(end);
                    }
                }
                At::Extension(size) => {
                    received.advance(1);
                    self.extension(next, size)?;
                }
                line => {
                    received.advance(1);
                    self.at = line.next(next)?;
                }
            }
        }
        Ok(Piece::None)
    }

    fn extension(&mut self, next: u8, size: u64) -> Result<(), &'static str> {
        self.extensions += 1;
        match next {
            b'\r' => self.at = At::SizeLf(size),
            b'\n' => return Err("a chunk extension has a line feed in it"),
            _ if self.extensions > MAX_EXTENSIONS => return Err("the chunk extensions are too long"),
            _ => {}
        }
        Ok(())
    }

    /// Takes a byte of what comes after the last chunk; all of it, when that was the last byte.
    fn trailer(&mut self, next: u8) -> Result<Option<Piece>, &'static str> {
        if next == b'\n' && self.trailers.last() != Some(&b'\r') {
            return Err("a trailer line ends in a bare line feed");
        }
        self.trailers.push(next);
        if self.trailers == b"\r\n" {
            return Ok(Some(Piece::End));
        }
        if self.trailers.ends_with(b"\r\n\r\n") {
            return parse_trailers(&self.trailers).map(|trailers| Some(Piece::Trailers(trailers)));
        }
        if self.trailers.len() > MAX_TRAILER_BYTES {
            return Err("the trailers are too long");
        }
        Ok(None)
    }
}

impl At {
    fn next(self, byte: u8) -> Result<Self, &'static str> {
        match (self, byte) {
            (Self::Size(size, digits), _) if byte.is_ascii_hexdigit() => {
                let digit = (byte as char).to_digit(16).map_or(0, u64::from);
                let size = size.checked_mul(16).and_then(|size| size.checked_add(digit));
                Ok(Self::Size(
                    size.ok_or("a chunk's size is no number that exists")?,
                    digits.saturating_add(1),
                ))
            }
            (Self::Size(_, 0), _) => Err("a chunk has no size"),
            (Self::Size(size, _) | Self::Space(size), b' ' | b'\t') => Ok(Self::Space(size)),
            (Self::Size(size, _) | Self::Space(size), b';') => Ok(Self::Extension(size)),
            (Self::Size(size, _) | Self::Space(size), b'\r') => Ok(Self::SizeLf(size)),
            (Self::SizeLf(0), b'\n') => Ok(Self::Trailers),
            (Self::SizeLf(size), b'\n') => Ok(Self::Data(size)),
            (Self::DataCr, b'\r') => Ok(Self::DataLf),
            (Self::DataLf, b'\n') => Ok(Self::Size(0, 0)),
            (Self::DataCr | Self::DataLf, _) => Err("a chunk is longer than it says"),
            _ => Err("a chunk's size is followed by something else"),
        }
    }
}

/// At most so many bytes.
fn take(received: &mut Bytes, most: u64) -> Bytes {
    let count = usize::try_from(most).unwrap_or(usize::MAX).min(received.len());
    received.split_to(count)
}

fn parse_trailers(lines: &[u8]) -> Result<HeaderMap, &'static str> {
    const WRONG: &str = "the trailers are no fields";
    let mut fields =
        [const { MaybeUninit::uninit() }; MAX_TRAILERS].map(|_: MaybeUninit<()>| httparse::EMPTY_HEADER);
    let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(lines, &mut fields) else {
        return Err(WRONG);
    };
    let mut trailers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| WRONG)?;
        trailers.append(name, HeaderValue::from_bytes(field.value).map_err(|_| WRONG)?);
    }
    Ok(trailers)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All of the content that comes in these pieces, its trailers, and what is left behind it; nothing where it does not
    /// end.
    fn all(mut decoder: Decoder, pieces: &[&str]) -> Result<Option<(String, String, String)>, &'static str> {
        let (mut content, mut fields, mut received) = (Vec::new(), String::new(), Bytes::new());
        let mut pieces = pieces.iter();
        loop {
            match decoder.decode(&mut received)? {
                Piece::Data(data) => content.extend_from_slice(&data),
                Piece::None => match pieces.next() {
                    Some(piece) => received = Bytes::copy_from_slice(&[&received, piece.as_bytes()].concat()),
                    None => return Ok(None),
                },
                Piece::Trailers(trailers) => {
                    fields = trailers.iter().map(|(name, value)| format!("{name}: {value:?}\n")).collect();
                    break;
                }
                Piece::End => break,
            }
        }
        assert!(decoder.is_over());
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Ok(Some((text(&content), fields, text(&received))))
    }

    #[test]
    fn content_ends_where_its_framing_says() {
        let chunked = || Decoder::Chunked(Chunks::default());
        for (decoder, text, content, trailers, rest) in [
            (Decoder::Over, "", "", "", ""),
            (Decoder::Length(3), "abcdef", "abc", "", "def"),
            (chunked(), "3\r\nabc\r\n0\r\n\r\nGET", "abc", "", "GET"),
            (chunked(), "0\r\n\r\n", "", "", ""),
            (chunked(), "3 ;x=\"y\"\r\nabc\r\n00A\r\n0123456789\r\n0\r\n\r\n", "abc0123456789", "", ""),
            (chunked(), "1\r\na\r\n0\r\nx: y\r\nz:1\r\n\r\n!", "a", "x: \"y\"\nz: \"1\"\n", "!"),
        ] {
            let expected = Ok(Some((content.to_owned(), trailers.to_owned(), rest.to_owned())));
            let again = match &decoder {
                Decoder::Over => Decoder::Over,
                Decoder::Length(length) => Decoder::Length(*length),
                Decoder::Chunked(_) => chunked(),
            };
            assert_eq!(all(decoder, &[text]), expected, "{text:?}");
            // Byte by byte, the rest has not come when it ends.
            let bytes: Vec<&str> = text.split("").filter(|byte| !byte.is_empty()).collect();
            let (got, fields, _) = all(again, &bytes).unwrap().unwrap();
            assert_eq!((&*got, &*fields), (content, trailers), "{text:?} byte by byte");
        }
    }

    #[test]
    fn what_has_no_end_is_not_over() {
        for text in ["", "3", "3\r\n", "3\r\nabc\r\n", "3\r\nabc\r\n0", "3\r\nabc\r\n0\r\n", "0\r\nx: y\r\n"]
        {
            assert_eq!(all(Decoder::Chunked(Chunks::default()), &[text]), Ok(None), "{text:?}");
        }
        assert_eq!(all(Decoder::Length(4), &["abc"]), Ok(None));
    }

    #[test]
    fn chunks_that_two_readers_could_read_differently_are_refused() {
        let long = format!("3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(MAX_EXTENSIONS + 1));
        let longer = format!("0\r\nx: {}\r\n\r\n", "y".repeat(MAX_TRAILER_BYTES + 1));
        for text in [
            "\r\n",
            ";\r\n",
            " 3\r\n",
            "g\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x3\r\n",
            "3h\r\n",
            "3 3\r\n",
            "3\n",
            "3\rx",
            "3;a\n",
            "3;a\rb",
            "3\r\nabcd",
            "3\r\nabc\n",
            "3\r\nabc\rx",
            "10000000000000000\r\n",
            "0\r\nx: y\n\r\n",
            "0\r\n\n",
            "0\r\nno field\r\n\r\n",
            "0\r\nbad name: x\r\n\r\n",
            "0\r\nx: y\r\n folded\r\n\r\n",
            &long,
            &longer,
        ] {
            assert!(all(Decoder::Chunked(Chunks::default()), &[text]).is_err(), "{text:?}");
        }
    }
}
