"""Tasks, one file each. A task samples rows and judges answers."""

from forethought.tasks.addition import Addition
from forethought.tasks.balanced_search import BalancedSearch
from forethought.tasks.base import Batch, Task
from forethought.tasks.binary_tree import BinaryTree
from forethought.tasks.chess_mate import ChessMate
from forethought.tasks.circle_construction import CircleConstruction
from forethought.tasks.countdown import Countdown
from forethought.tasks.data import Data, evaluation_rows, held_out
from forethought.tasks.data_module import TaskData
from forethought.tasks.draw import Draws, derive_seed
from forethought.tasks.first_hop import FirstHop
from forethought.tasks.in_weights_path_star import InWeightsPathStar
from forethought.tasks.junction_star import JunctionStar
from forethought.tasks.line_construction import LineConstruction
from forethought.tasks.maze import Maze
from forethought.tasks.maze_drawing import MazeDrawing
from forethought.tasks.multiplication import Multiplication
from forethought.tasks.path_star import PathStar
from forethought.tasks.permutation_hops import PermutationHops
from forethought.tasks.planning_distance import PlanningDistance
from forethought.tasks.prepare_ahead import PrepareAhead
from forethought.tasks.prosqa import ProsQA
from forethought.tasks.sibling_discovery import SiblingDiscovery
from forethought.tasks.sudoku import Sudoku
from forethought.tasks.text_file import TextFile
from forethought.tasks.three_sat import ThreeSat
from forethought.tasks.transitive_path import TransitivePath
from forethought.tasks.tree_star import TreeStar
from forethought.tasks.triangle_discovery import TriangleDiscovery
from forethought.tasks.typical_set import TypicalSet
from forethought.validation import validated_dataclass

__all__ = [
    "Addition",
    "BalancedSearch",
    "Batch",
    "BinaryTree",
    "ChessMate",
    "CircleConstruction",
    "Countdown",
    "Data",
    "Draws",
    "FirstHop",
    "InWeightsPathStar",
    "JunctionStar",
    "LineConstruction",
    "Maze",
    "MazeDrawing",
    "Multiplication",
    "PathStar",
    "PermutationHops",
    "PlanningDistance",
    "PrepareAhead",
    "ProsQA",
    "SiblingDiscovery",
    "Sudoku",
    "Task",
    "TaskData",
    "TextFile",
    "ThreeSat",
    "TransitivePath",
    "TreeStar",
    "TriangleDiscovery",
    "TypicalSet",
    "derive_seed",
    "evaluation_rows",
    "held_out",
    "validated_dataclass",
]
