//! Where pictures come from: folders and drawn demo scenes. It must not know what is done with them.
