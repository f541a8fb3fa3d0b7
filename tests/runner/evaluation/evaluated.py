"""A student and its teacher on a mesh, and the evaluator of both."""

import functools

import optax

import losses
from losses import LossTerm
from models import MoE, Transformer
from runner import runtime
from runner.evaluation.evaluation import Evaluation
from runner.evaluation.evaluator import Evaluator
from runner.machine import mesh as mesh_lib
from runner.state.trainable import TrainModules
from runner.step.compiled_step import CompiledStep
from runner.teachers import EMATeacher, TeacherContext
from tests.heads import in_blocks
from tests.runner.evaluation.held_out import BATCH, even, source

TERMS = (
    LossTerm(name="ce", loss=losses.CrossEntropy()),
    LossTerm(name="spans", loss=losses.CrossEntropy(), mask=even, weight=3.0),
    LossTerm(name="z_loss", loss=losses.ZLoss(), weight=1e-4),
    LossTerm(
        name="kl",
        loss=losses.ForwardKL(),
        weight=losses.MatchValue(to="ce"),
        token_weight=losses.Position(last=3),
    ),
    LossTerm(name="router_z", loss=losses.RouterZLoss(), mask=losses.token_mask),
    LossTerm(name="router_balance", loss=losses.LoadBalance(), mask=losses.token_mask),
)


def prepare(folder, metrics, terms=TERMS):
    """Evaluator, modules and state of a mixture of experts and its moving average."""
    text = source(folder)
    student = functools.partial(
        Transformer,
        vocab_size=300,
        dim=16,
        num_layers=1,
        num_heads=2,
        mlp=functools.partial(MoE, num_experts=4),
    )
    teacher = EMATeacher()
    modules = TrainModules(student, terms, optax.sgd(1.0), teacher.init_state)
    config = runtime.Runtime(
        mesh=runtime.Mesh(data=4, tensor=2),
        head=in_blocks(10, 300, planes=2),
        input=runtime.Input(cache=str(folder / "cache")),
    )
    mesh = mesh_lib.make(config.mesh)
    dataset = text.load(cache=config.input.cache)
    context = TeacherContext(
        vocabulary=dataset.vocabulary,
        mesh=mesh,
        rules=config.mesh.rules,
        modules=modules,
    )
    step = CompiledStep(
        modules,
        mesh=mesh,
        config=config,
        seed=0,
        teacher=teacher.load(context),
        teacher_node=teacher,
    )
    evaluation = Evaluation(
        name="held_out", data=text, batch_size=BATCH, metrics=metrics
    )
    evaluator = Evaluator(evaluation, step, config=config)
    state = modules.create(0, mesh, config.mesh.rules)
    state.params["student"]["output"] *= 8.0
    state.teacher["params"]["output"] *= 5.0
    return evaluator, modules, state
