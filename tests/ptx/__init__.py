"""A PTX machine: runs the code that Triton makes for NVIDIA's GPUs on the CPU, the threads of a program in lock step.

parse.py         the text of PTX: instructions, registers, variables, parameters
calls.py         functions that are called, in the place of their calls
operands.py      reading and writing registers, numbers, special registers
integers.py      integer arithmetic as PTX defines it
numbers.py       floating-point arithmetic as PTX defines it: rounding, subnormal numbers, NaN
arithmetic.py    the table of instructions that compute element by element
carries.py       sums and products with a carry
conversions.py   cvt, and packing of registers
memory.py        the memory of the host that a kernel may use, shared and local memory
races.py         accesses to shared memory between which a barrier is missing
access.py        loads, stores, asynchronous copies
warps.py         shuffles, votes, reductions over a warp
matrix.py        matrix units: mma, ldmatrix
warpgroup.py     those of capability 9.0: wgmma
machine.py       threads that part and meet again, barriers, counts
driver.py        stands for Triton's driver: the ordinary launch of a kernel ends in the machine
written.py       runs PTX that tests write by hand
use.py           the machine as the device of Pairfuse, for tests
"""
