//! JSON numbers to the nearest value of each datatype.
//!
//! Owns the number grammar and the fast, exact ways from decimal digits to floats; what they
//! cannot decide goes to the standard library's parser, so every result is correctly rounded.

/// A number as the text spells it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number<'a> {
    source: &'a str,
    start: usize,
    end: usize,
    /// The digits without point and sign; only meaningful if `complete`.
    mantissa: u64,
    /// The power of ten that `mantissa` is to be multiplied with.
    exponent: i32,
    negative: bool,
    /// `mantissa` holds every digit.
    complete: bool,
    /// There is neither a fraction nor an exponent.
    integral: bool,
}

/// Every 19-digit number fits a `u64`.
const DIGITS_THAT_FIT: usize = 19;

/// The powers of ten that an f64 holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// The number that starts at byte `start` of `source`, and where it ends; `None` if none does.
// Inlined so that each datatype's loop keeps only what it uses: 1.5 to 2 times as fast.
#[inline(always)]
pub(super) fn scan(source: &str, start: usize) -> Option<(Number<'_>, usize)> {
    let bytes = source.as_bytes();
    let negative = bytes.get(start) == Some(&b'-');
    let whole = start + usize::from(negative);
    let first @ b'0'..=b'9' = *bytes.get(whole)? else { return None };
    // One digit and a point is how most floats start, and a branch on the digit would be a guess.
    let (mut mantissa, mut end) = if first == b'0' || bytes.get(whole + 1) == Some(&b'.') {
        (u64::from(first - b'0'), whole + 1)
    } else {
        read_digits(bytes, whole, 0)
    };
    let mut digits = end - whole;
    let (mut exponent, mut integral) = (0_i32, true);
    if bytes.get(end) == Some(&b'.') {
        integral = false;
        let fraction = end + 1;
        (mantissa, end) = read_digits(bytes, fraction, mantissa);
        if end == fraction {
            return None;
        }
        digits += end - fraction;
        exponent = -i32::try_from(end - fraction).ok()?;
    }
    let complete = digits <= DIGITS_THAT_FIT || digits - leading_zeros(bytes, whole..end) <= DIGITS_THAT_FIT;
    if let Some(b'e' | b'E') = bytes.get(end) {
        integral = false;
        let (power, after) = scan_exponent(bytes, end + 1)?;
        exponent = exponent.saturating_add(power);
        end = after;
    }
    Some((Number { source, start, end, mantissa, exponent, negative, complete, integral }, end))
}

/// How many zeros come before the first other digit of the number that is there, the point not counted. The
/// number's digits are counted on the same terms, so it may be taken away from them.
#[cold]
fn leading_zeros(bytes: &[u8], number: std::ops::Range<usize>) -> usize {
    let zeros_and_point = bytes.get(number).unwrap_or_default().iter();
    zeros_and_point.take_while(|byte| matches!(byte, b'0' | b'.')).filter(|&&byte| byte == b'0').count()
}

/// Appends the digits that start at `at` to `mantissa`, which wraps beyond 19 of them. Returns it and
/// where the digits end.
#[inline(always)]
fn read_digits(bytes: &[u8], mut at: usize, mut mantissa: u64) -> (u64, usize) {
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        let (value, count) = leading_digits(chunk);
        mantissa = mantissa.wrapping_mul(TENS[count & 15]).wrapping_add(value);
        at += count;
        if count < 8 {
            return (mantissa, at);
        }
    }
    while let Some(digit @ b'0'..=b'9') = bytes.get(at) {
        mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
        at += 1;
    }
    (mantissa, at)
}

/// The powers of ten by which up to eight digits move a mantissa; the rest pads the index.
const TENS: [u64; 16] =
    [1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 0, 0, 0, 0, 0, 0, 0];

/// The digits that `chunk` starts with, and how many they are, without a branch on how many.
#[inline(always)]
fn leading_digits(chunk: &[u8; 8]) -> (u64, usize) {
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
    const LOW_PAIRS: u64 = 0x0000_00FF_0000_00FF;
    let word = u64::from_le_bytes(*chunk);
    let values = word.wrapping_sub(ZEROS);
    // A byte below '0' borrows into its own high bit, one above '9' reaches it with 0x46 added. A
    // borrow or carry spoils only bytes that come later in the text, beyond the first non-digit.
    let others = (word.wrapping_add(0x4646_4646_4646_4646) | values | word) & HIGH_BITS;
    let count = (others.trailing_zeros() / 8) as usize;
    // Digits move to the end of the eight and zeros come before them. The shift is in two halves
    // because a whole one by 64 bits is not defined.
    let half = 32 - 4 * count as u32;
    let aligned = (values << half) << half;
    // Pairs, then fours, then all eight.
    let pairs = aligned.wrapping_mul(10).wrapping_add(aligned >> 8);
    let upper = (pairs & LOW_PAIRS).wrapping_mul(100 + (1_000_000 << 32));
    let lower = ((pairs >> 16) & LOW_PAIRS).wrapping_mul(1 + (10_000 << 32));
    (upper.wrapping_add(lower) >> 32, count)
}

fn scan_exponent(bytes: &[u8], start: usize) -> Option<(i32, usize)> {
    let signed = matches!(bytes.get(start), Some(b'+' | b'-'));
    let first = start + usize::from(signed);
    let mut end = first;
    let mut power = 0_i32;
    while let Some(digit @ b'0'..=b'9') = bytes.get(end) {
        power = power.saturating_mul(10).saturating_add(i32::from(digit - b'0'));
        end += 1;
    }
    let power = if bytes.get(start) == Some(&b'-') { -power } else { power };
    (end > first).then_some((power, end))
}

impl<'a> Number<'a> {
    /// The spelling.
    pub(super) fn text(&self) -> &'a str {
        self.source.get(self.start..self.end).unwrap_or_default()
    }

    /// The value if it is spelled without fraction and exponent and fits an `i128`.
    pub(super) fn integer(&self) -> Option<i128> {
        if !self.integral {
            return None;
        }
        if !self.complete {
            return self.text().parse().ok();
        }
        let value = i128::from(self.mantissa);
        Some(if self.negative { -value } else { value })
    }

    /// Whether the number has neither fraction nor exponent.
    pub(super) const fn is_integral(&self) -> bool {
        self.integral
    }

    /// The nearest f64; `None` if that is infinite.
    pub(super) fn as_f64(&self) -> Option<f64> {
        // Both operands are exact, so the one rounding is the right one.
        if self.complete && self.mantissa <= 1 << 53 && self.exponent.unsigned_abs() <= 22 {
            return Some(self.scaled());
        }
        self.text().parse().ok().filter(|value: &f64| value.is_finite())
    }

    /// The nearest f32, without rounding to f64 first; `None` if that is infinite.
    pub(super) fn as_f32(&self) -> Option<f32> {
        if self.complete && self.exponent.unsigned_abs() <= 22 {
            let value = self.scaled();
            if rounds_to_f32_safely(value) {
                return Some(value as f32);
            }
        }
        self.text().parse().ok().filter(|value: &f32| value.is_finite())
    }

    /// The value within two units in the last place: one rounding of the mantissa, one of the
    /// product. `exponent` must be within ±22.
    fn scaled(&self) -> f64 {
        let power = POWERS[self.exponent.unsigned_abs().min(22) as usize];
        let mantissa = self.mantissa as f64;
        let value = if self.exponent < 0 { mantissa / power } else { mantissa * power };
        f64::from_bits(value.to_bits() | u64::from(self.negative) << 63)
    }
}

/// Whether every number within four units in the last place of `value` rounds to the same f32:
/// it lies in the f32's normal range and is not near the middle between two f32.
fn rounds_to_f32_safely(value: f64) -> bool {
    /// The bits that an f64 has beyond an f32.
    const BEYOND: u64 = (1 << 29) - 1;
    const MIDDLE: u64 = 1 << 28;
    if value == 0.0 {
        return true;
    }
    let size = value.abs();
    let normal = size > 2.0 * f64::from(f32::MIN_POSITIVE) && size < 0.99 * f64::from(f32::MAX);
    normal && (value.to_bits() & BEYOND).abs_diff(MIDDLE) > 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_digits_a_chunk_starts_with_are_counted_and_added_up() {
        for byte in (0..=255_u8).filter(|byte| !byte.is_ascii_digit()) {
            for count in 0..8 {
                for after in [b'0', b'9', 0, 0xff] {
                    let mut chunk = *b"98765432";
                    chunk[count] = byte;
                    chunk[count + 1..].fill(after);
                    let value = "98765432"[..count].parse().unwrap_or(0);
                    assert_eq!(leading_digits(&chunk), (value, count), "{chunk:?}");
                }
            }
        }
        assert_eq!(leading_digits(b"98765432"), (98_765_432, 8));
    }

    fn whole(text: &str) -> Option<Number<'_>> {
        scan(text, 0).filter(|&(_, end)| end == text.len()).map(|(number, _)| number)
    }

    #[test]
    fn only_what_json_calls_a_number_is_one() {
        for text in
            ["", "-", "+1", ".5", "1.", "1.e3", "01", "-01", "1e", "1e+", "0x1", "NaN", "inf", "1 ", "1_0"]
        {
            assert!(whole(text).is_none(), "{text}");
        }
        for text in ["0", "-0", "10", "0.5", "-0.0e-0", "1e5", "1E+5", "123456789012345678901234567890.5e-3"]
        {
            assert!(whole(text).is_some(), "{text}");
        }
    }

    #[test]
    fn hard_decimals_are_rounded_to_the_nearest() {
        for text in [
            "0.1",
            "16777217",
            "16777217.0000001",
            "16777216.9999999",
            "1.17549435e-38",
            "1e-45",
            "7e-46",
            "3.4028235e38",
            "9007199254740993",
            "2.2250738585072011e-308",
            "0.000000000000000000000000000012345678901234567890123",
            "8.589973e9",
            "1.00000017881393421514957253748434595763683319091796875001",
            "1.00000017881393432617187499",
            "-0",
            "-0.0",
            "0e999999999999",
        ] {
            let number = whole(text).unwrap();
            assert_eq!(number.as_f32().unwrap().to_bits(), text.parse::<f32>().unwrap().to_bits(), "{text}");
            assert_eq!(number.as_f64().unwrap().to_bits(), text.parse::<f64>().unwrap().to_bits(), "{text}");
        }
        assert_eq!(whole("1e999").unwrap().as_f64(), None);
        assert_eq!(whole("-1e39").unwrap().as_f32(), None);
        assert_eq!(whole("1e99999999999999999999").unwrap().as_f64(), None);
    }

    #[test]
    fn zeros_behind_a_number_are_not_its_own() {
        let zero = format!("0.{}", "0".repeat(30));
        let text = format!("{zero}.0000");
        let (number, end) = scan(&text, 0).unwrap();
        assert_eq!((number.complete, end), (true, zero.len()));
    }

    #[test]
    fn integers_keep_every_digit() {
        assert_eq!(whole("18446744073709551615").unwrap().integer(), Some(i128::from(u64::MAX)));
        assert_eq!(whole("-9223372036854775808").unwrap().integer(), Some(i128::from(i64::MIN)));
        assert_eq!(whole("1.0").unwrap().integer(), None);
        assert_eq!(whole(&"9".repeat(60)).unwrap().integer(), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn floats_equal_the_standard_parser(text in "-?(0|[1-9][0-9]{0,22})(\\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?") {
            let number = whole(&text).unwrap();
            let narrow: f32 = text.parse().unwrap();
            let wide: f64 = text.parse().unwrap();
            prop_assert_eq!(number.as_f32().map(f32::to_bits), narrow.is_finite().then_some(narrow.to_bits()));
            prop_assert_eq!(number.as_f64().map(f64::to_bits), wide.is_finite().then_some(wide.to_bits()));
        }

        #[test]
        fn decimals_around_the_middle_of_two_floats_round_right(
            bits in 0x0080_0000_u32..0x7f00_0000, offset in -6_i64..6, digits in 15_usize..19,
        ) {
            // An f32, moved to the middle to the next one and a few units of the f64 aside.
            let wide = f64::from(f32::from_bits(bits)).to_bits() + (1 << 28);
            let text = format!("{:.*e}", digits, f64::from_bits(wide.wrapping_add_signed(offset)));
            prop_assert_eq!(whole(&text).unwrap().as_f32().unwrap().to_bits(), text.parse::<f32>().unwrap().to_bits());
        }
    }
}
