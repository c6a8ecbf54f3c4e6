//! What is trained: the low-rank factors, the template they stand in, and their information density. It must
//! not know how training is done nor where prompts are kept.
