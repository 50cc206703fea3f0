//! `/add/3/4`, `/sub/3/4`, `/mul/3/4`, `/div/3/4`: whole numbers stay whole where they can.

use hyper::StatusCode;
use thiserror::Error;

use super::{Input, Model, Reply};

/// The number, without a line end.
pub(crate) fn answer(input: &Input) -> Reply {
    let path = input.head.uri.path();
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let [operation, left, right] = parts[..] else {
        return Reply::not_found(path, Model::Calculator);
    };
    let Some(operation) = Operation::named(operation) else {
        return Reply::not_found(path, Model::Calculator);
    };
    match Number::parse(left).and_then(|left| operation.apply(left, Number::parse(right)?)) {
        Ok(number) => Reply::text(StatusCode::OK, number.to_string()),
        Err(error) => Reply::bad_request(error),
    }
}

#[derive(Clone, Copy)]
enum Operation {
    Add,
    Sub,
    Mul,
    Div,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    Whole(i128),
    Float(f64),
}

#[derive(Debug, Error)]
enum ArithmeticError {
    #[error("{0:?} is not a number")]
    NotANumber(String),
    #[error("division by zero")]
    DivisionByZero,
    #[error("the result is too large")]
    TooLarge,
}

impl Number {
    fn parse(text: &str) -> Result<Self, ArithmeticError> {
        if let Ok(number) = text.parse() {
            return Ok(Self::Whole(number));
        }
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Self::Float(number)),
            Ok(_) | Err(_) => Err(ArithmeticError::NotANumber(text.into())),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a whole number that has no whole result becomes a float")]
    fn float(self) -> f64 {
        match self {
            Self::Whole(number) => number as f64,
            Self::Float(number) => number,
        }
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(number) => number.fmt(out),
            Self::Float(number) => number.fmt(out),
        }
    }
}

impl Operation {
    fn named(name: &str) -> Option<Self> {
        match name {
            "add" => Some(Self::Add),
            "sub" => Some(Self::Sub),
            "mul" => Some(Self::Mul),
            "div" => Some(Self::Div),
            _ => None,
        }
    }

    fn apply(self, left: Number, right: Number) -> Result<Number, ArithmeticError> {
        if let (Number::Whole(left), Number::Whole(right)) = (left, right)
            && let Some(number) = self.apply_whole(left, right)
        {
            return Ok(Number::Whole(number));
        }
        let (left, right) = (left.float(), right.float());
        let result = match self {
            Self::Add => left + right,
            Self::Sub => left - right,
            Self::Mul => left * right,
            Self::Div if right == 0.0 => return Err(ArithmeticError::DivisionByZero),
            Self::Div => left / right,
        };
        if result.is_finite() { Ok(Number::Float(result)) } else { Err(ArithmeticError::TooLarge) }
    }

    fn apply_whole(self, left: i128, right: i128) -> Option<i128> {
        match self {
            Self::Add => left.checked_add(right),
            Self::Sub => left.checked_sub(right),
            Self::Mul => left.checked_mul(right),
            Self::Div if left.checked_rem(right)? == 0 => left.checked_div(right),
            Self::Div => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compute(operation: &str, left: &str, right: &str) -> String {
        let result = Number::parse(left)
            .and_then(|left| Operation::named(operation).unwrap().apply(left, Number::parse(right)?));
        result.map_or_else(|error| error.to_string(), |number| number.to_string())
    }

    #[test]
    fn whole_numbers_stay_whole() {
        assert_eq!(compute("add", "3", "4"), "7");
        assert_eq!(compute("sub", "3", "4"), "-1");
        assert_eq!(compute("mul", "-3", "4"), "-12");
        assert_eq!(compute("div", "8", "4"), "2");
    }

    #[test]
    fn the_rest_is_floating() {
        assert_eq!(compute("div", "7", "2"), "3.5");
        assert_eq!(compute("add", "0.5", "1"), "1.5");
        assert_eq!(compute("add", &i128::MAX.to_string(), "1"), "170141183460469230000000000000000000000");
    }

    #[test]
    fn what_cannot_be_computed_is_said() {
        assert_eq!(compute("div", "1", "0"), "division by zero");
        assert_eq!(compute("div", "1", "0.0"), "division by zero");
        assert_eq!(compute("add", "x", "1"), "\"x\" is not a number");
        assert_eq!(compute("add", "inf", "1"), "\"inf\" is not a number");
        assert_eq!(compute("mul", "1e308", "10"), "the result is too large");
    }
}
