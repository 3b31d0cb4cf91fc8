"""Content of each table of RESULTS.md, by the name in its block."""

import re
from itertools import product

from tables.columns import (
    ACCURACY,
    DECISION,
    FLOPS,
    NONE,
    PARAMETERS,
    SOLVED,
    STEPS,
    UNSOLVED,
    constant,
    entropy,
    four_decimals,
    nats,
    of_decoding,
    of_graphs,
    parameters,
    per_seed,
    to_solve,
    two_decimals,
    unsolved,
)
from tables.rows import Row, Table


def objectives(*names: str) -> list[Row]:
    return [Row(f"`{name}`", f"objective={name} and reverse=false") for name in names]


def of_objective(title: str, where: str = "") -> Row:
    """A row for the objective that the title names first, ``multi_token`, 2 heads``."""
    name = re.findall(r"`(\w+)`", title)[0]
    return Row(title, f"objective={name}" + f" and {where}" * bool(where))


def decoding(name: str, title: str) -> Row:
    return Row(f"`next_token`, {title}", f"overrides={name}")


def addition_rows() -> list[Row]:
    rows = []
    for layers in (1, 3):
        where = f"layers={layers} and scratchpad"
        rows += [
            Row(f"{layers} | plain | {n}", f"{where}=none and order=plain and pauses={n}")
            for n in (0, 2, 4, 8)
        ]
        rows += [
            Row(f"{layers} | reversed | 0", f"{where}=none and order=reversed"),
            Row(f"{layers} | plain, optional scratchpad | 0", f"{where}=optional"),
        ]
    return rows


CREATIVE_ROWS = [
    of_objective(f"{title} | {n}", f"seed_length={n}")
    for title in ("`next_token`", "`teacherless`, `next_token_weight=0.5`", "`masked_diffusion`")
    for n in (0, 5)
]
CREATIVE = {
    "right": per_seed("test/accuracy"),
    "creativity": per_seed("test/creativity"),
    "memorised": per_seed("test/memorised"),
}
JUDGES = {
    "data likelihood, `entropy_weight=1`": "judge=data_likelihood and entropy_weight=1",
    "data likelihood": "judge=data_likelihood and entropy_weight=0",
    "exact": "judge=exact",
    "model likelihood": "judge=model_likelihood",
}


GRAPHS = sorted(product((2, 3, 4), (3, 4, 5)), key=lambda graph: graph[::-1])
G25 = "degree=2 and path_length=5"
HORIZONS = {
    f"`{objective}`, {name} {value}": f"objective={objective} and {name}={value}"
    for objective, name, values in (
        ("next_latent", "horizon", (1, 2, 3, 4)),
        ("token_order", "window", (2, 3, 4)),
        ("multi_token", "horizon", (3, 4)),
    )
    for value in values
}


def phase_rows() -> list[Row]:
    """A row for each objective and horizon, whose columns select the runs on their graphs."""
    settings = {
        "`next_token`": "objective=next_token and reverse=false",
        "`next_token`, `task.reverse=true`": "objective=next_token and reverse=true",
        "`multi_token`, horizon 3": "objective=multi_token and horizon=3",
        "`token_order`, window 2": "objective=token_order and window=2",
        "`next_latent`, horizon 1": "objective=next_latent and horizon=1",
        "`teacherless`": "objective=teacherless",
    }
    return [
        Row(title, f"{where} and {G25}", columns=of_graphs("phase_diagram", where, GRAPHS))
        for title, where in settings.items()
    ]


TABLES = {
    "objectives": Table(
        "quickstart",
        "objective",
        [
            Row("`next_token`, `task.reverse=true`", "objective=next_token and reverse=true"),
            *objectives(
                *("belief_state", "future_summary", "joint_multi_token", "ranking_into_the_future"),
                *("token_order", "next_latent"),
            ),
            of_objective("`multi_token`, `loss_scope=spill`", "loss_scope=spill"),
            *objectives("register_tokens", "masked_next_token"),
            of_objective("`multi_token`, `loss_scope=answer`", "loss_scope=answer"),
            *objectives(
                *("any_order", "sequential_multi_token", "plan_tokens", "scheduled_sampling", "next_token"),
                *("lookahead_insertion", "myopic", "masked_diffusion", "teacherless", "decision_only"),
                *("best_of_k", "policy_gradient"),
            ),
        ],
        SOLVED | STEPS | FLOPS | ACCURACY | DECISION | UNSOLVED | PARAMETERS,
    ),
    "phase_diagram": Table(
        "phase_diagram", "objective", phase_rows(), of_graphs("phase_diagram", "", GRAPHS)
    ),
    "phase_horizons": Table(
        "phase_diagram",
        "on G(2,5)",
        [Row(title, f"{where} and {G25}") for title, where in HORIZONS.items()],
        SOLVED | ACCURACY | DECISION | STEPS,
    ),
    "phase_arms": Table(
        "phase_diagram",
        "objective",
        [
            Row(title, f"{where} and {G25}", columns=of_graphs("phase_diagram", where, GRAPHS[-3:]))
            for title, where in HORIZONS.items()
        ],
        of_graphs("phase_diagram", "", GRAPHS[-3:]),
    ),
    "repairs": Table(
        "repairs",
        "objective",
        [
            of_objective("`future_summary`, `summary=revlm`"),
            of_objective("`bag_window`"),
            of_objective("`anchored_multi_token`"),
            of_objective("`mixture` (next token, TOP, NextLat)"),
            of_objective("`multi_token`, `heads=linear weight=0.125`"),
            of_objective("`hierarchical_latent`"),
            of_objective("`block_diffusion`, blocks of 4"),
            of_objective("`next_token_injection`"),
            of_objective("`latent_lookahead`, 3 slots"),
            of_objective("`insertion`, `mask=full`"),
            of_objective("`reverse_augmented`"),
        ],
        SOLVED
        | STEPS
        | FLOPS
        | {
            "FLOPs to solve": to_solve("flops_to_solve", lambda flops: f"{flops / 1e11:.1f}"),
            "seconds to solve": to_solve("seconds_to_solve"),
        }
        | ACCURACY
        | DECISION
        | UNSOLVED,
    ),
    "top_weight": Table(
        "top_weight",
        "weight of the ranking loss",
        [
            Row("0.1", "weight=0.1"),
            Row("0.3", "weight=0.3"),
            Row("1 (first table)", "objective=token_order", "quickstart"),
            Row("3", "weight=3"),
            Row("9", "weight=9"),
        ],
        SOLVED | STEPS | ACCURACY | UNSOLVED,
    ),
    "crossing": Table(
        "crossing",
        "horizon | heads | rate | graphs",
        [
            Row(
                f"{'5' if horizon == 'null' else horizon} | `{heads}` | {schedule} | "
                f"{'fresh' if samples == 'null' else '16,000'}",
                f"horizon={horizon} and heads={heads} and schedule={schedule} and train_samples={samples}",
            )
            for horizon in ("null", "2")
            for heads in ("blocks", "linear")
            for schedule in ("constant", "cosine")
            for samples in ("null", "16000")
        ],
        SOLVED | STEPS | ACCURACY | UNSOLVED,
    ),
    "full_mask": Table(
        "g25_full",
        "`masked_diffusion`",
        [
            Row("`model.mask=prefix` (first table)", "objective=masked_diffusion", "quickstart"),
            Row("`model.mask=full`"),
        ],
        SOLVED | ACCURACY | DECISION | UNSOLVED,
    ),
    "first_hop": Table(
        "first_hop",
        "latent steps (path length)",
        [Row(f"{length - 2} ({length})", f"path_length={length}") for length in range(3, 8)],
        SOLVED | STEPS | ACCURACY | UNSOLVED,
    ),
    "planning_distance": Table(
        "planning_distance",
        "objective",
        [
            *objectives("token_order", "masked_diffusion", "teacherless", "next_token"),
            Row("`next_token`, `task.reverse=true`", None, "planning_distance_reversed"),
        ],
        SOLVED
        | STEPS
        | {
            "distance 0" if n == 0 else f"{n}": per_seed(f"test/accuracy_planning_distance_{n}")
            for n in range(4)
        },
    ),
    "junction_star": Table(
        "junction_star",
        "objective",
        objectives("next_token", "multi_token", "masked_diffusion"),
        SOLVED
        | ACCURACY
        | {"decision": per_seed("test/decision_accuracy"), "other verdicts": unsolved, "weights": parameters},
    ),
    "transitive_path": Table(
        "transitive_path",
        "objective",
        [of_objective("`next_token` (1-token)"), of_objective("`multi_token` (2-token)")],
        ACCURACY | {f"degree {n}": per_seed(f"test/accuracy_degree_{n}") for n in range(4)},
    ),
    "alpine": Table(
        "alpine",
        "nodes | layers",
        [Row(f"{nodes} | {n}", f"num_nodes={nodes} and layers={n}") for nodes in (30, 60) for n in (1, 3)],
        ACCURACY | {f"degree {n}": per_seed(f"test/accuracy_degree_{n}") for n in range(4)},
    ),
    "binary_tree": Table(
        "binary_tree",
        "names of a node | graphs listed backward",
        [
            Row("by role | half", "node_ids=by_role"),
            Row("one | none", "node_ids=shared"),
        ],
        SOLVED | ACCURACY | {f"depth {n}": per_seed(f"test/accuracy_depth_{n}") for n in range(1, 5)},
    ),
    "balanced_search": Table(
        "balanced_search",
        "nodes",
        [Row(str(nodes), f"num_nodes={nodes}") for nodes in (11, 15, 19)],
        SOLVED | ACCURACY | {f"lookahead {n}": per_seed(f"test/accuracy_lookahead_{n}") for n in range(5)},
    ),
    "in_weights": Table(
        "in_weights",
        "star | edges | pauses",
        [
            Row(
                f"G(200,{length}) | {edges} | {pauses}",
                f"path_length={length} and edges={edges} and pauses={pauses}",
            )
            for length, edges, pauses in (
                *((length, "both", pauses) for length in (4, 5) for pauses in (4, 0)),
                *((4, edges, 4) for edges in ("backward", "forward")),
            )
        ],
        SOLVED | STEPS | ACCURACY | {"first hop": per_seed("test/decision_accuracy")},
    ),
    "decodings": Table(
        "typical_set_decodings",
        "training, decoding",
        [
            # Exact values of the task's chain: no run has them.
            Row(
                "the chain itself",
                file="typical_set",
                columns={
                    "typical": constant(".881"),
                    "loop": constant(".000"),
                    "more likely than typical": constant(".058"),
                    "−log q, nats a symbol": constant(NONE),
                    "−log p, nats a symbol": constant("1.865"),
                },
            ),
            decoding("evaluation.decoding=sample", "`sample`"),
            decoding("evaluation.decoding=sample evaluation.top_p=0.5", "`sample`, `top_p=0.5`"),
            decoding("evaluation.decoding=best_of_k evaluation.samples=8", "`best_of_k`, 8 samples"),
            decoding("evaluation.decoding=best_of_k evaluation.samples=64", "`best_of_k`, 64 samples"),
            decoding("evaluation.decoding=beam evaluation.beams=8", "`beam`, 8 beams"),
            decoding("evaluation.decoding=greedy", "`greedy`"),
            *(
                Row(
                    f"`{name}`, sampled",
                    f"objective={name}",
                    "typical_set_reinforced",
                    {
                        "typical": per_seed("test/sampled_reward"),
                        "loop": per_seed("test/likelihood_loop"),
                        "more likely than typical": constant(NONE),
                        "−log q, nats a symbol": entropy(form),
                        "−log p, nats a symbol": constant(NONE),
                    },
                )
                for name, form in (("best_of_k", four_decimals), ("policy_gradient", two_decimals))
            ),
        ],
        {
            "typical": per_seed("test/accuracy"),
            "loop": per_seed("test/error_loop"),
            "more likely than typical": per_seed("test/error_likely"),
            "−log q, nats a symbol": per_seed("test/written_loss", two_decimals),
            "−log p, nats a symbol": per_seed("test/written_true_loss", two_decimals),
        },
    ),
    "n_token_typical": Table(
        "n_token_typical",
        "judge | n",
        [
            Row(f"{title} | {n}", f"{where} and horizon={n}")
            for (title, where), n in product(JUDGES.items(), (1, 2, 4, 8))
        ],
        {
            "typical": per_seed("test/sampled_reward"),
            "loop": per_seed("test/likelihood_loop"),
            "KL from the chain": per_seed("test/kl_from_truth", nats),
            "entropy": per_seed("test/answer_entropy", two_decimals),
        },
    ),
    "preference": Table(
        "preference",
        "objective",
        [
            *(Row(f"`preference`, `{name}`", f"variant={name}") for name in ("dpo", "rpo", "ipo")),
            Row("`value_guided`, `q_sharp`", "objective=value_guided"),
        ],
        ACCURACY
        | {
            "first hop, forced": per_seed("test/decision_accuracy"),
            "other tokens, forced": per_seed("test/forced_local_accuracy"),
        },
    ),
    "star_rewards": Table(
        "grpo_star",
        "from | objective",
        [
            *(
                Row(
                    f"plateau | n = {n}, {judge.replace('_', ' ')}",
                    f"judge={judge} and horizon={n}",
                    "n_token_star",
                )
                for judge, n in product(("exact", "data_likelihood"), (1, 2, 5))
            ),
            Row("plateau | GRPO, reward exact", "sweep=grpo_plateau and reward=exact"),
            Row("plateau | GRPO, reward first hop", "sweep=grpo_plateau and reward=first_hop"),
            Row("plateau, easy mix | GRPO, reward exact, easy mix", "sweep=grpo_plateau_mixed"),
            Row("scratch | GRPO, reward exact, 500 steps", "sweep=grpo_scratch and reward=exact"),
            Row("scratch | GRPO, reward share, 500 steps", "sweep=grpo_scratch and reward=share"),
            Row("scratch | GRPO, reward exact, easy mix", "sweep=grpo_scratch_mixed"),
        ],
        ACCURACY
        | {
            "first hop, forced": per_seed("test/decision_accuracy"),
            "one of 8 samples right": per_seed("test/pass_at_k"),
        },
    ),
    "prepare_ahead": Table(
        "prepare_ahead",
        "objective",
        [of_objective("`next_token`"), of_objective("`myopic`")],
        ACCURACY
        | {
            "of the sums (chance .232)": per_seed("test/accuracy_asked_1"),
            "of the last numbers": per_seed("test/accuracy_asked_0"),
        },
    ),
    "multiplication": Table(
        "multiplication",
        "objective | pauses",
        [of_objective(f"`{name}` | {n}", f"pauses={n}") for name in ("next_token", "myopic") for n in (0, 4)],
        ACCURACY
        | {f"{n} digits" if n != 1 else "1 digit": per_seed(f"test/accuracy_digits_{n}") for n in range(3)},
    ),
    "addition": Table(
        "addition",
        "layers | order | pauses",
        addition_rows(),
        ACCURACY
        | {"decisions": per_seed("test/decision_accuracy")}
        | {f"chain {n}": per_seed(f"test/accuracy_carry_{n}") for n in (1, 3, 6)},
    ),
    "scratchpad": Table(
        "scratchpad_decodings",
        "training",
        [Row("`next_token`", "sweep=scratchpad"), Row("`policy_gradient`", "sweep=scratchpad_reinforced")],
        {
            f"{word}, {title}": of_decoding(name, per_seed(metric))
            for title, name in (("sampled", "sample"), ("greedy", "greedy"))
            for word, metric in (("writes", "test/notes_written"), ("right", "test/accuracy"))
        },
    ),
    "sibling_discovery": Table(
        "sibling_discovery",
        "objective | letters of the seed",
        CREATIVE_ROWS,
        CREATIVE
        | {
            "highest in validation": per_seed("val/highest_creativity"),
        },
    ),
    "triangle": Table(
        "triangle",
        "objective | letters of the seed",
        CREATIVE_ROWS,
        CREATIVE
        | {
            "no such edge": per_seed("test/error_missing_edge"),
            "no triangle": per_seed("test/error_other"),
        },
    ),
    "circle": Table(
        "circle",
        "objective | letters of the seed",
        CREATIVE_ROWS,
        CREATIVE
        | {
            "several circles": per_seed("test/error_pieces"),
            "branches": per_seed("test/error_branches"),
        },
    ),
    "line": Table(
        "line",
        "objective | letters of the seed",
        CREATIVE_ROWS,
        CREATIVE
        | {
            "several pieces": per_seed("test/error_pieces"),
            "branches": per_seed("test/error_branches"),
        },
    ),
    "countdown": Table(
        "countdown",
        "objective",
        [
            of_objective("`next_token`"),
            of_objective("`next_latent`, `horizon=1`"),
            of_objective("`multi_token`, `horizon=2`", "horizon=2"),
            of_objective("`multi_token`, `horizon=4`", "horizon=4"),
            of_objective("`masked_diffusion`, full mask"),
        ],
        {
            "right": per_seed("test/accuracy"),
            "first equation": per_seed("test/equation_accuracy_1"),
            "second equation": per_seed("test/equation_accuracy_2"),
        },
    ),
    "sudoku": Table(
        "sudoku",
        "objective",
        [of_objective("`next_token`, `mask=prefix`"), of_objective("`masked_diffusion`, `mask=full`")],
        {"solved": per_seed("test/accuracy")}
        | {"4 givens" if n == 4 else f"{n}": per_seed(f"test/accuracy_givens_{n}") for n in range(4, 8)}
        | {"decisions": per_seed("test/decision_accuracy")},
    ),
    "maze": Table(
        "maze",
        "objective",
        [of_objective("`next_token`, `mask=prefix`"), of_objective("`masked_diffusion`, `mask=full`")],
        {"right": per_seed("test/accuracy")}
        | {
            "below 5 edges" if n == 0 else f"{5 * n} to {5 * n + 4}": per_seed(f"test/accuracy_length_{n}")
            for n in range(3)
        }
        | {
            "decisions": per_seed("test/decision_accuracy"),
            "wrong branch": per_seed("test/error_wrong_branch"),
            "broken edge": per_seed("test/error_broken_edge"),
        },
    ),
    "names": Table(
        "g25_names",
        "names | width, graphs a step, steps",
        [
            Row("9 (first table) | 32, 64, 2,000", "objective=token_order", "quickstart"),
            *(
                Row(
                    f"{names} | {width}, {batch}, {steps:,}",
                    f"num_nodes={names} and width={width} and batch_size={batch} and max_steps={steps}",
                )
                for names, width, batch, steps in (
                    *((12, 32, 64, 2000), (20, 32, 64, 2000)),
                    *((20, 64, 64, 4000), (20, 32, 256, 6000)),
                )
            ),
        ],
        SOLVED | STEPS | ACCURACY | UNSOLVED,
    ),
    "g24_prefix": Table(
        "g24_prefix",
        "objective",
        objectives("token_order", "next_token", "teacherless"),
        SOLVED | STEPS | ACCURACY | DECISION | UNSOLVED | PARAMETERS,
    ),
    "g24_causal": Table(
        "g24_causal",
        "`multi_token`",
        [Row(f"`loss_scope={scope}`", f"loss_scope={scope}") for scope in ("answer", "spill")],
        SOLVED | STEPS | ACCURACY | DECISION | UNSOLVED | PARAMETERS,
    ),
}
