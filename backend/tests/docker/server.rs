//! The model server of these tests: built without cargo, by `support`, as a static program for an image from scratch.

use std::io::{Read, Write};
use std::net::TcpListener;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("fail") => fail(&arguments[2]),
        Some("eat") => eat(),
        Some("abort") => std::process::abort(),
        _ => serve(),
    }
}

/// Answers every connection, and logs it.
fn serve() {
    let port = std::env::var("PORT").expect("PORT is set");
    let listener = TcpListener::bind(("0.0.0.0", port.parse().expect("PORT is a number"))).expect("it can listen");
    println!("listening on {port}");
    for connection in listener.incoming() {
        let mut connection = connection.expect("a connection");
        let mut head = [0; 1024];
        let _ = connection.read(&mut head);
        println!("answering");
        let greeting = std::env::var("GREETING").unwrap_or_default();
        let _ = write!(connection, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{greeting}", greeting.len());
    }
}

/// Logs more lines than are wanted, and exits.
fn fail(code: &str) {
    for line in 1..=30 {
        eprintln!("line {line}");
    }
    eprintln!("no weights");
    std::process::exit(code.parse().expect("a code"));
}

/// Takes memory until there is none.
fn eat() {
    println!("eating");
    let mut all = Vec::new();
    loop {
        all.push(vec![1u8; 1 << 20]);
    }
}
