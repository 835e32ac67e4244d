import pytest
import torch

from roselora.errors import ConfigError
from roselora.models.teacher_forcing import TeacherForcedRow, teacher_forced

ROWS = [
    TeacherForcedRow([5, 6, 7, 8, 9], 2),
    TeacherForcedRow([50], 0),
    TeacherForcedRow([11, 12], 0),
    TeacherForcedRow(list(range(20, 50)), 29),
    TeacherForcedRow([5, 6, 7], 1),
]


def test_predictions_are_those_of_each_row_alone_whatever_the_batch(tiny_model):
    model = tiny_model()
    for batch_size in (1, 2, 16):
        found = dict(teacher_forced(model, ROWS, batch_size=batch_size))
        assert sorted(found) == list(range(len(ROWS)))
        for index, row in enumerate(ROWS):
            logits = model(torch.tensor([row.ids])).logits[0, row.start :]
            assert found[index].tokens == logits.argmax(-1).tolist()
            expected = logits[0].log_softmax(-1)
            torch.testing.assert_close(found[index].log_probabilities(), expected.detach(), rtol=0, atol=1e-4)


def test_logits_are_computed_at_the_asked_positions_alone_and_the_model_is_left_as_it_was(tiny_model):
    model = tiny_model().train()
    shapes = []
    model.lm_head.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape)))
    list(teacher_forced(model, ROWS))
    assert shapes == [(1, 3 + 1 + 2 + 1 + 2, model.config.vocab_size)]
    assert model.training
    assert not model.lm_head._forward_pre_hooks


def test_a_batch_size_below_one_is_refused(tiny_model):
    with pytest.raises(ConfigError, match="batch_size is 0"):
        list(teacher_forced(tiny_model(), ROWS, batch_size=0))
