"""The state graph of Blocksworld."""


def blocksworld_moves(blocks: int) -> list[tuple[int, int]]:
    """Return the pairs of states of labelled blocks that one move joins, in both directions.

    A state is an arrangement of the blocks into stacks on a table. A move puts the top block of a stack onto
    another stack or onto the table. States are numbered from 0, all blocks on the table. 3, 4 and 5 blocks
    have 13, 73 and 501 states.
    """
    on_table = frozenset[tuple[int, ...]]((block,) for block in range(blocks))  # stacks, from the table up
    states, numbers, moves = [on_table], {on_table: 0}, list[tuple[int, int]]()
    for state in states:  # which grows
        for stack in sorted(state):
            below, block, others = stack[:-1], stack[-1], state - {stack}
            left = others | {below} if below else others
            after = [left - {other} | {(*other, block)} for other in sorted(others)]
            if below:  # From the table to the table is no move.
                after.append(left | {(block,)})
            for moved in after:
                if moved not in numbers:
                    numbers[moved] = len(states)
                    states.append(moved)
                moves.append((numbers[state], numbers[moved]))
    return moves
