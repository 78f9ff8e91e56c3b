"""The engine: workload x machine x plan -> time, memory, energy, money, and the derivation of each."""
