//! `size = "if queue > 7 { 2 } else { 1 }"`: a line of script (rhai) as a policy.
//!
//! The script sees numbers and gives one. It can reach nothing: no files, no clock, no modules, no output. Operations,
//! depth, strings, arrays and time are bounded, since it runs while the service's pool is locked.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Zoned;
use longshore_pool::{Load, Recommendation, ScalingPolicy, Time, Traffic};
use rhai::{AST, Dynamic, Engine, Scope};

use super::wall::Zone;

/// Longest text.
const LONGEST: usize = 4_096;
/// An evaluation may take so many steps, and so long. (A usual one takes ten, and a microsecond.)
const OPERATIONS: u64 = 20_000;
const TIME: Duration = Duration::from_millis(20);
/// Steps between two looks at the clock.
const LOOK: u64 = 64;

/// A script that was compiled.
#[derive(Clone)]
pub struct Expression {
    text: Arc<str>,
    zone: Zone,
    ast: Arc<AST>,
    engine: Arc<Sandbox>,
}

/// The language with its limits, and the deadline of the evaluation under way.
struct Sandbox {
    engine: Engine,
    born: Instant,
    deadline_nanos: Arc<AtomicU64>,
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.text).field(&self.zone).finish()
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.zone == other.zone
    }
}

impl Expression {
    /// Compiles a text; the error says what is wrong with it, and where.
    pub fn compile(text: &str, zone: Zone) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!("an expression has {LONGEST} bytes at the most"));
        }
        let sandbox = Sandbox::new();
        let names = scope(&Load::default(), &zone.at(0.0));
        let ast =
            sandbox.engine.compile_with_scope(&names, text).map_err(|error| explained(&error.to_string()))?;
        let expression = Self { text: text.into(), zone, ast: Arc::new(ast), engine: Arc::new(sandbox) };
        // What is no number is a mistake wherever it comes from; a division by zero may be one of an idle service only.
        match expression.evaluate(&Load::default()) {
            Err(Failure::NoSize(what)) => Err(what),
            Err(Failure::Stopped(_)) | Ok(_) => Ok(expression),
        }
    }

    /// The same with its `hour`, `minute` and `weekday` told elsewhere.
    #[must_use]
    pub fn told_in(self, zone: Zone) -> Self {
        Self { zone, ..self }
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where its `hour`, `minute` and `weekday` are told.
    pub const fn zone(&self) -> &Zone {
        &self.zone
    }

    /// The size, and what the value was where it is told otherwise than it came.
    fn evaluate(&self, load: &Load) -> Result<(u32, Option<String>), Failure> {
        let mut scope = scope(load, &self.zone.at(load.unix_time));
        let value = self.engine.run(&self.ast, &mut scope).map_err(Failure::Stopped)?;
        let size = number(&value).ok_or_else(|| {
            let kind = value.type_name();
            Failure::NoSize(format!(
                "an expression gives a number of instances, this one gives a value of type {kind}"
            ))
        })?;
        let below = value.as_int().is_ok_and(|whole| whole < 0) || value.as_float().is_ok_and(|it| it < 0.0);
        Ok((size, below.then(|| value.to_string())))
    }
}

enum Failure {
    /// It ended in an error, or was cut off.
    Stopped(String),
    /// It gave something that is no size.
    NoSize(String),
}

/// Whole numbers as they are, others rounded up, what is below 0 as 0.
fn number(value: &Dynamic) -> Option<u32> {
    if let Ok(whole) = value.as_int() {
        return Some(u32::try_from(whole.max(0)).unwrap_or(u32::MAX));
    }
    let float = value.as_float().ok().filter(|float| !float.is_nan())?;
    Some(float.ceil().clamp(0.0, f64::from(u32::MAX)) as u32)
}

fn scope(load: &Load, wall: &Zoned) -> Scope<'static> {
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let mut scope = Scope::new();
    scope.push("queue", count(load.queue));
    scope.push("oldest_wait", load.oldest_wait.as_secs_f64());
    scope.push("in_flight", count(load.in_flight));
    scope.push("ready", i64::from(load.ready));
    scope.push("starting", i64::from(load.starting));
    scope.push("size", i64::from(load.size));
    scope.push("arrival_rate", load.arrival_rate);
    scope.push("service_time", load.service_time);
    scope.push("hour", i64::from(wall.hour()));
    scope.push("minute", i64::from(wall.minute()));
    scope.push("weekday", i64::from(wall.weekday().to_monday_one_offset()));
    scope
}

/// What cannot be known from rhai's own message.
fn explained(error: &str) -> String {
    if error.starts_with("Variable not found") || error.starts_with("Undefined variable") {
        let names = "queue, oldest_wait, in_flight, ready, starting, size, arrival_rate, service_time, hour, minute, weekday";
        return format!("{error}; there are {names}");
    }
    if error.starts_with("Script terminated") || error.starts_with("Too many operations") {
        return format!("it works for too long: is there a loop without end? ({error})");
    }
    error.to_owned()
}

impl Sandbox {
    fn new() -> Self {
        let mut engine = Engine::new();
        let (born, deadline_nanos) = (Instant::now(), Arc::new(AtomicU64::new(u64::MAX)));
        engine
            .set_max_operations(OPERATIONS)
            .set_max_call_levels(8)
            .set_max_expr_depths(32, 16)
            .set_max_variables(64)
            .set_max_functions(16)
            .set_max_string_size(1_024)
            .set_max_array_size(256)
            .set_max_map_size(64)
            .set_strict_variables(true)
            .disable_symbol("eval")
            .disable_symbol("print")
            .disable_symbol("debug")
            .on_print(|_| {})
            .on_debug(|_, _, _| {});
        let deadline = deadline_nanos.clone();
        engine.on_progress(move |step| {
            let late = step % LOOK == 0 && nanos(born) > deadline.load(Ordering::Relaxed);
            late.then(|| Dynamic::from(format!("it takes longer than {} ms", TIME.as_millis())))
        });
        Self { engine, born, deadline_nanos }
    }

    fn run(&self, ast: &AST, scope: &mut Scope<'_>) -> Result<Dynamic, String> {
        let deadline = nanos(self.born) + u64::try_from(TIME.as_nanos()).unwrap_or(u64::MAX);
        self.deadline_nanos.store(deadline, Ordering::Relaxed);
        self.engine.eval_ast_with_scope::<Dynamic>(scope, ast).map_err(|error| explained(&error.to_string()))
    }
}

fn nanos(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

impl ScalingPolicy for Expression {
    fn name(&self) -> &'static str {
        "expression"
    }

    fn recommend(&mut self, load: &Load, _traffic: &Traffic, _now: Time) -> Recommendation {
        match self.evaluate(load) {
            Ok((size, None)) => Recommendation::new(size, format!("the expression gives {size}")),
            Ok((size, Some(value))) => {
                Recommendation::new(size, format!("the expression gives {value}, which counts as {size}"))
            }
            Err(Failure::Stopped(what) | Failure::NoSize(what)) => {
                Recommendation::unknown(load, format!("the expression failed: {what}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc() -> Zone {
        Zone::named("UTC").unwrap()
    }

    fn value(text: &str, load: &Load) -> Result<u32, String> {
        let given = Expression::compile(text, utc())?.evaluate(load).map_err(|failure| match failure {
            Failure::Stopped(what) | Failure::NoSize(what) => what,
        })?;
        Ok(given.0)
    }

    #[test]
    fn it_sees_the_names_of_the_interface() {
        let load = Load {
            queue: 8,
            oldest_wait: Duration::from_millis(1_500),
            in_flight: 3,
            ready: 2,
            starting: 1,
            size: 3,
            arrival_rate: 4.5,
            service_time: 0.5,
            // A Saturday, 11:05.
            unix_time: 1_795_259_100.0,
            ..Load::default()
        };
        for (text, size) in [
            ("if queue > 7 { 2 } else { 1 }", 2),
            ("queue + in_flight + ready + starting + size", 17),
            ("arrival_rate * service_time", 3),
            ("oldest_wait", 2),
            ("hour * 100 + minute", 1105),
            ("weekday", 6),
            ("max(1, queue / 3)", 2),
            ("-5", 0),
            ("let spare = 2; in_flight + spare", 5),
            ("1.0 / 0.0", u32::MAX),
        ] {
            assert_eq!(value(text, &load), Ok(size), "{text}");
        }
    }

    #[test]
    fn a_mistake_is_told_when_it_is_compiled() {
        for (text, said) in [
            ("x", "there are queue, oldest_wait"),
            ("queue >", "Script is incomplete"),
            ("\"abc\"", "this one gives a value of type string"),
            ("true", "this one gives a value of type bool"),
            ("", "this one gives a value of type ()"),
            ("eval(\"1\")", "eval"),
            ("import \"x\" as y; 1", "import"),
            (&"1+".repeat(3_000), "4096 bytes at the most"),
            (&format!("{}1{}", "(".repeat(200), ")".repeat(200)), "maximum complexity"),
        ] {
            let error = Expression::compile(text, utc()).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn nothing_that_it_does_goes_on_for_ever_or_grows_without_end() {
        for text in [
            "loop { }",
            "let x = 0; while true { x += 1; } x",
            "fn f(n) { f(n + 1) } f(0)",
            "let s = \"x\"; loop { s += s; } 1",
            "let a = []; loop { a.push(1); } 1",
            "let a = []; a.pad(1000000000, 0); 1",
            "let s = \"\"; s.pad(1000000000, \"x\"); 1",
            "let x = []; for i in 0..1000000000 { x += [x]; } 1",
        ] {
            let begun = Instant::now();
            let error = value(text, &Load::default()).expect_err(text);
            assert!(!error.starts_with("Script terminated"), "{text}: {error}");
            assert!(begun.elapsed() < Duration::from_secs(2), "{text}: {:?}", begun.elapsed());
        }
    }

    #[test]
    fn a_number_below_zero_is_told_as_it_is() {
        for (text, reason) in [
            ("-5", "the expression gives -5, which counts as 0"),
            ("-0.5", "the expression gives -0.5, which counts as 0"),
            ("queue", "the expression gives 0"),
        ] {
            let mut policy = Expression::compile(text, utc()).unwrap();
            let said = policy.recommend(&Load::default(), &Traffic::new(Time::ZERO), Time::ZERO);
            assert_eq!((said.size, said.reason.as_str()), (0, reason));
        }
    }

    #[test]
    fn an_error_keeps_the_last_size_and_says_why() {
        let mut policy = Expression::compile("queue / ready", utc()).unwrap();
        let traffic = Traffic::new(Time::ZERO);
        let load = Load { size: 4, ..Load::default() };
        let said = policy.recommend(&load, &traffic, Time::ZERO);
        assert!(said.failed && said.size == 4, "{said:?}");
        assert!(said.reason.starts_with("the expression failed: Division by zero"), "{}", said.reason);
        let said = policy.recommend(&Load { ready: 2, queue: 6, ..load }, &traffic, Time::ZERO);
        assert_eq!((said.failed, said.size, said.reason.as_str()), (false, 3, "the expression gives 3"));
    }
}
