//! No two questions have one key.

use proptest::prelude::*;

use super::{pairs, tensors};
use crate::cache::key::Owner;
use crate::cache::{Key, Scope, Seed, SeedParts, Subject};
use crate::model::tensor::Tensor;

/// All that an answer depends on. Pieces are short and of few letters, so that two of them joined are often the same
/// as two others.
#[derive(Clone, Debug, PartialEq)]
struct Question {
    seed: (Vec<String>, [u64; 3]),
    owner: Option<(String, String)>,
    epoch: u64,
    subject: Asked,
}

#[derive(Clone, Debug, PartialEq)]
enum Asked {
    Run(Vec<Tensor>, Vec<usize>),
    Body(String, Vec<u8>, Vec<(String, String)>),
    Tensors(Vec<Tensor>, Vec<(String, String)>),
}

impl Question {
    fn key(&self) -> Key {
        let (texts, limits) = &self.seed;
        let seed = Seed::new(&SeedParts {
            model: &texts[0],
            version: &texts[1],
            digest: &texts[2],
            runtime: &texts[3],
            place: &texts[4],
            limits: *limits,
        });
        let owner = self.owner.as_ref().map(|(kind, subject)| Owner::new(kind, subject));
        let subject = match &self.subject {
            Asked::Run(inputs, wanted) => Subject::Run { inputs, wanted },
            Asked::Body(content_type, body, parameters) => Subject::Body { content_type, body, parameters },
            Asked::Tensors(inputs, parameters) => Subject::Tensors { inputs, parameters },
        };
        Key::new(&seed, Scope { owner: owner.as_ref(), epoch: self.epoch }, subject)
    }
}

fn asked() -> impl Strategy<Value = Asked> {
    prop_oneof![
        (tensors(), prop::collection::vec(0_usize..3, 0..3))
            .prop_map(|(inputs, wanted)| Asked::Run(inputs, wanted)),
        ("[ab]{0,2}", prop::collection::vec(97_u8..99, 0..3), pairs())
            .prop_map(|(content_type, body, parameters)| Asked::Body(content_type, body, parameters)),
        (tensors(), pairs()).prop_map(|(inputs, parameters)| Asked::Tensors(inputs, parameters)),
    ]
}

fn question() -> impl Strategy<Value = Question> {
    let seed = (prop::collection::vec("[ab]{0,2}", 5), prop::array::uniform3(0_u64..2));
    let owner = prop::option::of(("[ab]{1,2}", "[ab]{0,2}"));
    (seed, owner, 0_u64..2, asked()).prop_map(|(seed, owner, epoch, subject)| Question {
        seed,
        owner,
        epoch,
        subject,
    })
}

/// The same question with one component of it changed.
fn changed(question: &Question, other: &Question, component: usize) -> Question {
    let mut changed = question.clone();
    match component {
        0..5 => changed.seed.0[component].clone_from(&other.seed.0[component]),
        5..8 => changed.seed.1[component - 5] = other.seed.1[component - 5],
        8 => changed.owner.clone_from(&other.owner),
        9 => changed.epoch = other.epoch,
        _ => match (&mut changed.subject, &other.subject) {
            (Asked::Run(inputs, wanted), Asked::Run(others, outputs)) => match component {
                10 => inputs.clone_from(others),
                _ => wanted.clone_from(outputs),
            },
            (Asked::Body(content_type, body, parameters), Asked::Body(other_type, bytes, pairs)) => {
                match component {
                    10 => content_type.clone_from(other_type),
                    11 => body.clone_from(bytes),
                    _ => parameters.clone_from(pairs),
                }
            }
            (Asked::Tensors(inputs, parameters), Asked::Tensors(others, pairs)) => match component {
                10 => inputs.clone_from(others),
                _ => parameters.clone_from(pairs),
            },
            (subject, other) => subject.clone_from(other),
        },
    }
    changed
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn two_questions_have_one_key_only_if_they_are_the_same(left in question(), right in question()) {
        prop_assert_eq!(left == right, left.key() == right.key());
        prop_assert_eq!(left.key(), left.clone().key());
    }

    #[test]
    fn a_change_of_any_component_changes_the_key(left in question(), right in question(), component in 0_usize..13) {
        let changed = changed(&left, &right, component);
        prop_assert_eq!(left == changed, left.key() == changed.key());
    }

    /// A byte moves from the end of one piece to the beginning of the next.
    #[test]
    fn what_is_joined_alike_is_not_the_same(text in "[ab]{2,6}", cut in 0_usize..6, other in 0_usize..6) {
        let (cut, other) = (cut.min(text.len()), other.min(text.len()));
        let at = |cut: usize| {
            let (name, value) = text.split_at(cut);
            let pair = vec![(name.to_owned(), value.to_owned())];
            let body = Asked::Body(name.to_owned(), value.as_bytes().to_vec(), Vec::new());
            [Asked::Body(String::new(), Vec::new(), pair.clone()), body, Asked::Tensors(Vec::new(), pair)].map(|subject| {
                Question { seed: (vec![String::new(); 5], [0; 3]), owner: None, epoch: 0, subject }.key()
            })
        };
        for (left, right) in at(cut).into_iter().zip(at(other)) {
            prop_assert_eq!(cut == other, left == right);
        }
    }
}

#[test]
fn kinds_of_callers_and_of_questions_are_told_apart() {
    assert_ne!(Owner::new("token", "a"), Owner::new("api_key", "a"));
    let seed = Seed::new(&SeedParts::default());
    let of = |subject| Key::new(&seed, Scope { owner: None, epoch: 0 }, subject);
    let run = of(Subject::Run { inputs: &[], wanted: &[] });
    let tensors = of(Subject::Tensors { inputs: &[], parameters: &[] });
    let body = of(Subject::Body { content_type: "", body: &[], parameters: &[] });
    assert!(run != tensors && tensors != body && run != body);
    let nobody = Owner::new("", "");
    let owned =
        Key::new(&seed, Scope { owner: Some(&nobody), epoch: 0 }, Subject::Run { inputs: &[], wanted: &[] });
    assert_ne!(owned, run);
    assert_eq!(run.to_hex().len(), 64);
}
