-- The sum of int8 as int8: the built-in one makes a numeric, which takes longer to turn back than to add up.

CREATE OR REPLACE AGGREGATE add_up(int8) (SFUNC = int8pl, STYPE = int8, COMBINEFUNC = int8pl, PARALLEL = SAFE);
