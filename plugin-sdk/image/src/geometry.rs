//! Sizes and positions, as integers.

use crate::error::ImageError;

/// The size whose shorter side is `shorter`, as torchvision has it: the longer side is
/// `floor(shorter * longer / shorter-before)`.
pub(crate) fn shorter_side(width: u32, height: u32, shorter: u32) -> Result<(u32, u32), ImageError> {
    let scaled = |long: u32, short: u32| {
        u32::try_from(u64::from(shorter) * u64::from(long) / u64::from(short.max(1))).map_err(|_| {
            ImageError::too_large(format!("a shorter side of {shorter} makes the longer one overflow"))
        })
    };
    if width <= height {
        Ok((shorter, scaled(height, width)?))
    } else {
        Ok((scaled(width, height)?, shorter))
    }
}

/// Where a middle part of `inner` starts within `outer`: half the rest, ties to even.
pub(crate) const fn center_offset(outer: u32, inner: u32) -> u32 {
    let rest = outer - inner;
    let half = rest / 2;
    if rest % 2 == 1 && half % 2 == 1 { half + 1 } else { half }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_side_is_rounded_down() {
        assert_eq!(shorter_side(600, 400, 256).unwrap(), (384, 256));
        assert_eq!(shorter_side(451, 300, 256).unwrap(), (384, 256));
        assert_eq!(shorter_side(300, 451, 256).unwrap(), (256, 384));
        assert_eq!(shorter_side(7, 7, 3).unwrap(), (3, 3));
        assert!(shorter_side(65_535, 1, u32::MAX).is_err());
    }

    #[test]
    fn a_tie_goes_to_the_even_offset() {
        let offsets: Vec<u32> = (0..8).map(|rest| center_offset(10 + rest, 10)).collect();
        // Python: [round(r / 2) for r in range(8)]
        assert_eq!(offsets, [0, 0, 1, 2, 2, 2, 3, 4]);
    }
}
