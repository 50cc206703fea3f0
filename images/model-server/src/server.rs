//! Owns the listener and the connections, from the first to SIGTERM.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{sleep, timeout};

use crate::args::Args;
use crate::exchange;
use crate::socket::{Ending, Socket};
use crate::state::State;

/// Serves until SIGTERM or SIGINT, then lets what is at work end. A second signal ends at once.
pub(crate) async fn run(args: Args) -> io::Result<()> {
    // As process 1 of a container it gets no default handlers: without these, `docker stop` takes its whole grace.
    let mut signals =
        Signals { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? };
    if let Some(delay) = args.fault_start_delay {
        tokio::select! {
            () = sleep(delay) => {}
            () = signals.next() => return Ok(()),
        }
    }
    let listener = listen(SocketAddr::new(args.host, args.port)).await?;
    let state = State::new(&args);
    announce(&state, listener.local_addr()?)?;
    if let Some(after) = args.fault_exit_after {
        tokio::spawn(exit_after(after));
    }
    let graceful = GracefulShutdown::new();
    tokio::select! {
        never = accept(&listener, &state, &graceful) => match never {},
        () = signals.next() => {}
    }
    drop(listener);
    tokio::select! {
        _ = timeout(args.grace, graceful.shutdown()) => {}
        () = signals.next() => {}
    }
    Ok(())
}

async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))
}

struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

fn announce(state: &State, address: SocketAddr) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "model-server: {} {} listens on {address}", state.model, state.instance)?;
    out.flush()
}

async fn exit_after(time: Duration) {
    sleep(time).await;
    eprintln!("model-server: fault: exit 70 after {}", humantime::format_duration(time));
    std::process::exit(70);
}

async fn accept(
    listener: &TcpListener,
    state: &Arc<State>,
    graceful: &GracefulShutdown,
) -> std::convert::Infallible {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve(stream, state.clone(), graceful.watcher()));
            }
            Err(error) => {
                // Out of descriptors, most likely: others must end first.
                eprintln!("model-server: cannot accept: {error}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, state: Arc<State>, watcher: Watcher) {
    if let Err(error) = stream.set_nodelay(true) {
        eprintln!("model-server: cannot set nodelay: {error}");
    }
    let ending = Ending::default();
    let socket = TokioIo::new(Socket::new(stream, ending.clone()));
    let service = service_fn(|request| exchange::answer(request, state.clone(), ending.clone()));
    let builder = Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection_with_upgrades(socket, service);
    // How a connection ends is the client's affair, or a fault's: there is nothing to do about it.
    let _ = watcher.watch(connection).await;
}
