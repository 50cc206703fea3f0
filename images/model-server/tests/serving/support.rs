//! Starts the program, and speaks HTTP/1.1 so plainly that a broken answer can be told from a whole one.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A running server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
    pub(crate) instance: String,
}

/// How a request ended.
#[derive(Debug, PartialEq)]
pub(crate) enum Outcome {
    Whole(Answer),
    /// The connection ended, with this after the head, before all that was promised had come.
    Cut {
        received: usize,
        reset: bool,
    },
    /// Nothing at all came before the connection ended.
    Nothing {
        reset: bool,
    },
    /// Nothing more came for so long that nothing more will.
    Silence {
        head: bool,
    },
}

/// A whole answer.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

impl Outcome {
    pub(crate) fn whole(self) -> Answer {
        match self {
            Self::Whole(answer) => answer,
            Self::Cut { .. } | Self::Nothing { .. } | Self::Silence { .. } => panic!("no answer: {self:?}"),
        }
    }
}

impl Server {
    /// Starts one on a free port and waits until it listens.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child = program().args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, _, instance, "listens", "on", address] = words[..] else { panic!("not a start: {line:?}") };
        Self { child, address: address.into(), instance: instance.into() }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "", b"").whole()
    }

    /// A GET with a `Fault` field.
    pub(crate) fn get_with_fault(&self, path: &str, fault: &str) -> Outcome {
        self.send("GET", path, &format!("Fault: {fault}\r\n"), b"")
    }

    /// `headers` are whole lines.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Outcome {
        let mut stream = self.connect();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        // In one piece: a server that resets the connection early would make a second write fail.
        stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        receive(stream)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        stream
    }

    pub(crate) fn terminate(&self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    }

    /// Waits until it has exited; at most ten seconds.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, which is to listen on a free port.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_model-server"));
    command.args(["--host", "127.0.0.1", "--port", "0"]);
    command
}

pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    let begun = Instant::now();
    loop {
        match child.try_wait().unwrap() {
            Some(status) => return status,
            None if begun.elapsed() > Duration::from_secs(10) => panic!("it does not exit"),
            None => std::thread::park_timeout(Duration::from_millis(5)),
        }
    }
}

/// Reads what comes until the connection ends.
pub(crate) fn receive(mut stream: TcpStream) -> Outcome {
    let mut bytes = Vec::new();
    let end = stream.read_to_end(&mut bytes).map_err(|error| error.kind());
    let (silent, reset) = match end {
        Ok(_) => (false, false),
        Err(ErrorKind::ConnectionReset) => (false, true),
        Err(ErrorKind::WouldBlock | ErrorKind::TimedOut) => (true, false),
        Err(error) => panic!("{error}"),
    };
    let head_end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let (Some(head_end), false) = (head_end, silent) else {
        return if silent {
            Outcome::Silence { head: head_end.is_some() }
        } else {
            Outcome::Nothing { reset }
        };
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    let raw = &bytes[head_end + 4..];
    let body = match header(&head, "transfer-encoding") {
        Some(_) => unchunk(raw),
        None => {
            let length: usize = header(&head, "content-length").unwrap().parse().unwrap();
            (raw.len() == length).then(|| raw.to_vec())
        }
    };
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    match body {
        Some(body) => Outcome::Whole(Answer { status, head, body }),
        None => Outcome::Cut { received: raw.len(), reset },
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.into_iter().find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value))
}

/// `None` where the last chunk is missing.
fn unchunk(mut raw: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = raw.windows(2).position(|window| window == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&raw[..line]).unwrap(), 16).unwrap();
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(raw.get(line + 2..line + 2 + size)?);
        raw = raw.get(line + 2 + size + 2..)?;
    }
}
