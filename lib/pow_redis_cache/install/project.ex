defmodule PowRedisCache.Install.Project do
  @moduledoc false
  # The files of an app, and the names in them.

  alias PowRedisCache.Install.Source

  # `files` maps paths relative to the folder to their texts.
  defstruct [:folder, :app, :endpoint, files: %{}]

  @type t :: %__MODULE__{}

  @patterns ["mix.exs", "config/*.exs", "lib/**/*.ex"]

  def read(folder) do
    files =
      for pattern <- @patterns,
          path <- folder |> Path.join(pattern) |> Path.wildcard(),
          into: %{},
          do: {Path.relative_to(path, folder), File.read!(path)}

    project = %__MODULE__{folder: folder, files: files}

    with {:ok, source} <- mix_file(project),
         :ok <- no_umbrella(source),
         {:ok, app} <- app(source) do
      {:ok, %{project | app: app, endpoint: module_with(project, "use Phoenix.Endpoint")}}
    end
  end

  @doc "The text of a file, or `nil`."
  def text(project, path), do: project.files[path]

  def put_text(project, path, text), do: put_in(project.files[path], text)

  @doc "The parsed file, or `nil` if it is missing or not valid Elixir."
  def source(project, path) do
    with text when is_binary(text) <- project.files[path],
         {:ok, source} <- Source.parse(text) do
      source
    else
      _ -> nil
    end
  end

  @doc "The module of the app's repository."
  def repo(project), do: module_with(project, "use Ecto.Repo") || name(project, "Repo")

  @doc "The schema of the app's users, by default the one that Pow generates."
  def user(project),
    do: module_with(project, "use Pow.Ecto.Schema") || name(project, "Users.User")

  @doc "The paths under lib whose text has a match."
  def grep(project, pattern) do
    for {"lib/" <> _ = path, text} <- project.files, text =~ pattern, do: path
  end

  @doc "The path of the file that defines a module, or `nil`."
  def file_of(project, module) do
    pattern = ~r/^defmodule\s+#{Regex.escape(inspect(module))}\s/m
    project |> grep(pattern) |> List.first()
  end

  defp mix_file(project) do
    case source(project, "mix.exs") do
      nil -> {:error, "expected a mix.exs in #{project.folder}. Run it in the folder of an app"}
      source -> {:ok, source}
    end
  end

  defp no_umbrella(source) do
    case Source.pair_value(source, :apps_path) do
      nil ->
        :ok

      _path ->
        {:error,
         "this is an umbrella project. Run it in the folder of the app with the endpoint, such " <>
           "as apps/my_app_web"}
    end
  end

  defp app(source) do
    case Source.pair_value(source, :app) do
      {:__block__, _meta, [app]} when is_atom(app) and app != nil -> {:ok, app}
      _other -> {:error, "expected app: :name in mix.exs. Its value is no atom, or missing"}
    end
  end

  # Under the namespace of the app's own module, such as MyApp.Application.
  defp name(project, name) do
    source = source(project, "mix.exs")

    with {:__block__, _, [{module, _arguments}]} <- Source.pair_value(source, :mod),
         module when module != nil <- Source.alias_of(module) do
      module |> Module.split() |> Enum.drop(-1) |> Kernel.++([name]) |> Module.concat()
    else
      _ -> Module.concat(project.app |> Atom.to_string() |> Macro.camelize(), name)
    end
  end

  # The module of the only file with a text, or `nil`.
  defp module_with(project, text) do
    case grep(project, text) do
      [path] -> project |> source(path) |> Source.module()
      _paths -> nil
    end
  end
end
