-- How many rows one table has and the other has not, counted both ways.
SELECT (SELECT count(*) FROM (SELECT * FROM :a :where EXCEPT ALL SELECT * FROM :b :where) AS only_a)
     + (SELECT count(*) FROM (SELECT * FROM :b :where EXCEPT ALL SELECT * FROM :a :where) AS only_b);
