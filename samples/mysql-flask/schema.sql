-- Applied once. What is to change later goes into a file after this one, named in mysql.schema_files.
CREATE TABLE IF NOT EXISTS people (
    id INT AUTO_INCREMENT PRIMARY KEY,
    name VARCHAR(100) NOT NULL UNIQUE,
    added TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
);
INSERT INTO people (name) VALUES ('Ada'), ('Grace');
