//! Where tensors lie in the shared memory.
//!
//! Owns the description of a run's inputs and of its outputs, at the memory's beginning, and every check of it:
//! whoever reads one has copied it out first, and trusts no length and no offset in it.

use crate::model::tensor::{DataType, Tensor};

/// Where a tensor's bytes begin: as ONNX Runtime likes them, for every datatype.
const ALIGNMENT: usize = 64;
/// Dimensions of a tensor, at most.
const MOST_DIMENSIONS: usize = 255;
/// Bytes of a description, at most.
pub(super) const MOST_HEAD: usize = 16 << 20;

/// One tensor: what it is, and where its bytes lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) datatype: DataType,
    pub(super) shape: Vec<usize>,
    pub(super) offset: usize,
    pub(super) length: usize,
}

/// The description of one side of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// In the model's order, or in the order in which they were asked for.
    pub(super) tensors: Vec<Place>,
    /// The outputs that are asked for; empty in an answer.
    pub(super) wanted: Vec<usize>,
}

/// Why a description is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PlaceError {
    /// It ends too early, or goes on where it should end.
    #[error("the description of the tensors does not add up")]
    Form,
    /// A tensor that cannot be there.
    #[error("tensor {0} lies outside of the shared memory, or is not as long as its shape says")]
    Tensor(usize),
}

impl Places {
    /// Puts tensors behind each other, in a memory that begins with their description. The lengths come
    /// with them. Returns how much of the memory is used; `None` if no memory is that large.
    pub(super) fn arrange(&mut self) -> Option<usize> {
        let mut at = self.head_length();
        for place in &mut self.tensors {
            place.offset = at.checked_next_multiple_of(ALIGNMENT)?;
            at = place.offset.checked_add(place.length)?;
        }
        Some(at)
    }

    fn head_length(&self) -> usize {
        let dimensions: usize = self.tensors.iter().map(|place| place.shape.len()).sum();
        8 + self.tensors.len() * (2 + 16) + dimensions * 8 + self.wanted.len() * 4
    }

    /// Its bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.head_length());
        let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
        bytes.extend_from_slice(&count(self.tensors.len()));
        bytes.extend_from_slice(&count(self.wanted.len()));
        for place in &self.tensors {
            let datatype = DataType::ALL.iter().position(|&datatype| datatype == place.datatype);
            bytes.push(datatype.and_then(|index| u8::try_from(index).ok()).unwrap_or(u8::MAX));
            // More dimensions than the limit are refused by whoever reads this.
            bytes.push(u8::try_from(place.shape.len()).unwrap_or(u8::MAX));
            for number in place.shape.iter().chain([&place.offset, &place.length]) {
                bytes.extend_from_slice(&(*number as u64).to_le_bytes());
            }
        }
        self.wanted.iter().for_each(|&position| bytes.extend_from_slice(&count(position)));
        bytes
    }

    /// Reads a description of tensors in a memory of `size` bytes.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub(super) fn decode(bytes: &[u8], size: usize) -> Result<Self, PlaceError> {
        let mut rest = Rest(bytes);
        let (tensors, wanted) = (rest.count()?, rest.count()?);
        // Each takes some bytes of the description: a count alone takes no memory.
        if tensors > bytes.len() / 18 || wanted > bytes.len() / 4 {
            return Err(PlaceError::Form);
        }
        let mut places = Self::default();
        for index in 0..tensors {
            places.tensors.push(rest.place(index, size)?);
        }
        for _ in 0..wanted {
            places.wanted.push(rest.count()?);
        }
        if rest.0.is_empty() { Ok(places) } else { Err(PlaceError::Form) }
    }
}

/// What has not been read yet.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn take<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH], PlaceError> {
        let (taken, rest) = self.0.split_first_chunk::<LENGTH>().ok_or(PlaceError::Form)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn count(&mut self) -> Result<usize, PlaceError> {
        self.take().map(|bytes| u32::from_le_bytes(bytes) as usize)
    }

    fn number(&mut self) -> Result<usize, PlaceError> {
        usize::try_from(u64::from_le_bytes(self.take()?)).map_err(|_| PlaceError::Form)
    }

    fn place(&mut self, index: usize, size: usize) -> Result<Place, PlaceError> {
        let [datatype, dimensions] = self.take()?;
        let datatype = DataType::ALL.get(usize::from(datatype)).copied().ok_or(PlaceError::Form)?;
        let shape = (0..dimensions).map(|_| self.number()).collect::<Result<Vec<_>, _>>()?;
        let (offset, length) = (self.number()?, self.number()?);
        let end = offset.checked_add(length).filter(|&end| end <= size);
        let elements = shape.iter().try_fold(1_usize, |product, &dimension| product.checked_mul(dimension));
        // Elements that differ in length are counted when a tensor is made of them.
        let expected = elements.and_then(|elements| match datatype.width() {
            Some(width) => elements.checked_mul(width),
            None => Some(length),
        });
        if end.is_none() || expected != Some(length) {
            return Err(PlaceError::Tensor(index));
        }
        Ok(Place { datatype, shape, offset, length })
    }
}

/// Requests as one run: their tensors put behind each other along the first dimension.
///
/// # Errors
/// The tensors are not alike but for that dimension, or have too many dimensions: whose fault, in words.
pub(super) fn gathered(requests: &[&[Tensor]], wanted: &[usize]) -> Result<Places, String> {
    let (first, others) = requests.split_first().ok_or("a run without a request")?;
    let mut places = Places { tensors: Vec::with_capacity(first.len()), wanted: wanted.to_vec() };
    for (position, tensor) in first.iter().enumerate() {
        let (datatype, mut shape, mut length) = (tensor.datatype, tensor.shape.clone(), tensor.data.len());
        if shape.len() > MOST_DIMENSIONS {
            return Err(format!(
                "input '{}' has {} dimensions, at most {MOST_DIMENSIONS} can be run in a process of its own",
                tensor.name,
                shape.len()
            ));
        }
        for request in others {
            let other = request
                .get(position)
                .filter(|other| other.datatype == datatype && other.shape.get(1..) == shape.get(1..));
            let (Some(other), Some(items)) = (other, shape.first_mut()) else {
                return Err(format!("requests that differ at input {position} were put together"));
            };
            *items += other.shape.first().copied().unwrap_or_default();
            length += other.data.len();
        }
        places.tensors.push(Place { datatype, shape, offset: 0, length });
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn places() -> impl Strategy<Value = Places> {
        let tensor = (0..14_usize, proptest::collection::vec(0..5_usize, 0..5), 0..100_usize);
        let tensors = proptest::collection::vec(tensor, 0..5);
        (tensors, proptest::collection::vec(0..9_usize, 0..5)).prop_map(|(tensors, wanted)| {
            let place = |(index, shape, texts): (usize, Vec<usize>, usize)| {
                let datatype = DataType::ALL[index];
                let elements: usize = shape.iter().product();
                let length = datatype.width().map_or(texts, |width| elements * width);
                Place { datatype, shape, offset: 0, length }
            };
            Places { tensors: tensors.into_iter().map(place).collect(), wanted }
        })
    }

    proptest! {
        #[test]
        fn what_is_arranged_is_read_and_nothing_overlaps(mut places in places()) {
            let used = places.arrange().unwrap();
            let bytes = places.encode();
            prop_assert_eq!(bytes.len(), places.head_length());
            prop_assert_eq!(Places::decode(&bytes, used), Ok(places.clone()));
            let mut end = bytes.len();
            for place in &places.tensors {
                prop_assert!(place.offset >= end && place.offset.is_multiple_of(ALIGNMENT));
                end = place.offset + place.length;
            }
            prop_assert!(end <= used);
            for cut in 0..bytes.len() {
                prop_assert!(Places::decode(&bytes[..cut], used).is_err());
            }
            if places.tensors.iter().any(|place| place.length > 0) {
                prop_assert!(Places::decode(&bytes, used - 1).is_err());
            }
        }

        #[test]
        fn hostile_numbers_stay_within_the_memory(
            mut places in places(),
            at in any::<usize>(),
            with in any::<[u8; 8]>(),
            size in 0..4096_usize,
        ) {
            places.arrange();
            let mut bytes = places.encode();
            let at = at % bytes.len();
            for (place, byte) in bytes[at..].iter_mut().zip(with) {
                *place = byte;
            }
            if let Ok(read) = Places::decode(&bytes, size) {
                for place in read.tensors {
                    prop_assert!(place.offset.checked_add(place.length).unwrap() <= size);
                }
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _any = Places::decode(&bytes, 1 << 20);
        }
    }

    #[test]
    fn a_count_alone_takes_no_memory() {
        let bytes = [0xff; 8];
        assert_eq!(Places::decode(&bytes, usize::MAX), Err(PlaceError::Form));
    }

    #[test]
    fn requests_are_put_behind_each_other_if_they_are_alike() {
        let tensor = |rows: usize, width: usize| {
            vec![Tensor::new("x", DataType::Fp32, vec![rows, width], vec![0; rows * width * 4]).unwrap()]
        };
        let (one, two, wide) = (tensor(1, 3), tensor(2, 3), tensor(1, 4));
        let places = gathered(&[&one, &two], &[0]).unwrap();
        assert_eq!((places.tensors[0].shape.as_slice(), places.tensors[0].length), ([3, 3].as_slice(), 36));
        assert!(gathered(&[&one, &wide], &[]).is_err() && gathered(&[], &[]).is_err());
    }
}
